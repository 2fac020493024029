"""What the figures show, read back from their artists, and that they render."""

import numpy as np
import pytest
from matplotlib.image import imread

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.evaluation import plots
from fer_pipeline.models.notebook_cnn import build_model
from fer_pipeline.training.loop import EpochLog


def split(counts):
    labels = np.repeat(np.arange(7, dtype=np.int32), counts)
    # Every image is filled with its class's number, so that a figure's images can be told apart.
    images = np.broadcast_to(labels.astype(np.uint8)[:, None, None, None], (len(labels), 48, 48, 1))
    return Split(images, labels)


def test_samples_show_real_images_of_their_row(tmp_path):
    figure = plots.samples(split([3, 1, 9, 20, 9, 9, 9]), columns=5)
    rows = np.reshape(figure.axes, (7, 5))
    shown = [[int(axis.images[0].get_array()[0, 0]) for axis in row if axis.images] for row in rows]
    assert shown == [[0] * 3, [1], [2] * 5, [3] * 5, [4] * 5, [5] * 5, [6] * 5]
    assert [row[0].texts[0].get_text() for row in rows] == list(CLASS_NAMES)
    plots.save(figure, tmp_path / "samples.png")
    assert imread(tmp_path / "samples.png").std() > 0


@pytest.mark.parametrize(("selected_on", "groups"), [("validation", 3), ("test", 2)])
def test_counts_draw_a_bar_for_each_class_and_split(selected_on, groups):
    part = split([4, 1, 2, 7, 5, 3, 6])
    figure = plots.counts(Splits(part, part, part, selected_on))
    containers = figure.axes[0].containers
    assert len(containers) == groups
    assert [bar.get_height() for bar in containers[0]] == [4, 1, 2, 7, 5, 3, 6]


def test_curves_draw_every_epoch_and_the_rate_it_had():
    rates = [5e-4, 5e-4, 5e-5]
    history = [
        EpochLog(i + 1, rate, 2 - i, 0.1 * i, 3 - i, 0.2 * i) for i, rate in enumerate(rates)
    ]
    loss, accuracy, rate = plots.curves(history).axes
    assert loss.lines[0].get_ydata().tolist() == [2, 1, 0]
    assert accuracy.lines[1].get_ydata() == pytest.approx([0.0, 0.2, 0.4])
    values, edges, _ = rate.patches[0].get_data()
    assert values.tolist() == rates
    assert list(edges) == [0.5, 1.5, 2.5, 3.5]
    assert len(plots.curves(history[:1]).axes[0].lines) == 2


@pytest.mark.parametrize("selected_on", ["validation", "test"])
def test_no_text_of_the_curves_is_on_a_panel(selected_on):
    history = [EpochLog(i, 0.01 / i, 2 / i, i / 20, 3 / i, i / 20) for i in range(1, 19)]
    figure = plots.curves(history, selected_on=selected_on)
    figure.canvas.draw()
    panels = [axis.get_window_extent() for axis in figure.axes]
    [legend] = figure.legends
    texts = [legend, *(t for a in figure.axes for t in (a.title, a._left_title, *a.texts))]
    for text in texts:
        box = text.get_window_extent()
        assert not any(box.overlaps(panel) for panel in panels if box.width)
    assert not any(axis.get_legend() for axis in figure.axes)


def test_confusion_matrix_prints_counts_and_shares():
    confusion = np.diag([10] * 7)
    confusion[0] = [6, 4, 0, 0, 0, 0, 0]
    figure = plots.confusion_matrix(confusion, title="title")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert len(texts) == 49
    assert texts[:3] == ["6\n60%", "4\n40%", "0\n0%"]


def test_architecture_lists_every_layer_and_the_totals(tmp_path):
    model = build_model()
    figure = plots.architecture(model)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert all(layer.name in texts for layer in model.layers)
    assert "4,478,727 parameters, 4,474,759 trainable" in texts
    assert "24 x 24 x 128" in texts
    assert "2,359,808" in texts
    plots.save(figure, tmp_path / "architecture.png")
