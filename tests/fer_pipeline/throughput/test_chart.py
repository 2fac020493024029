"""What benchmark.png shows, read back from its artists, and that it fits a page."""

import numpy as np
import pytest

from fer_pipeline.throughput import chart

MACHINE = {"cpu": "a CPU", "cores": 2, "gpus": []}


def row(name, value, key="images_per_second", **more):
    return {"name": name, key: value, **more}


def draw(**stages):
    return chart.draw({"machine": MACHINE, "stages": stages})


def dots(axis):
    """Name, marker, colour and median of every dot; and the spread of every line."""
    names = [label.get_text() for label in axis.get_yticklabels()]
    marked = [line for line in axis.lines if line.get_marker() not in ("", "None")]
    spreads = [list(line.get_xdata()) for line in axis.lines if line not in marked]
    found = [
        (names[line.get_ydata()[0]], line.get_marker(), line.get_color(), line.get_xdata()[0])
        for line in marked
    ]
    return found, spreads


def test_a_panel_has_a_dot_for_each_row_with_a_figure():
    rows = [
        row("slow", 10.0, min=9.0, max=12.0),
        row("absent", None, min=None, max=None),
        row("fast", 1000.0, min=900.0, max=1000.0, kind="ours"),
    ]
    [axis] = draw(input=[{"title": "batch 64", "rows": rows}]).axes
    found, spreads = dots(axis)
    assert found == [("slow", "o", "#767676", 10.0), ("fast", "o", "#0072b2", 1000.0)]
    assert spreads == [[9.0, 12.0], [900.0, 1000.0]]
    assert axis.get_xscale() == "log"
    assert axis.get_title(loc="left") == "input: batch 64; images/s, median"
    assert [text.get_text() for text in axis.texts] == ["10", "1,000"]


def test_batch_sizes_are_columns_of_one_panel():
    tables = [
        {"title": f"batch {size}, shuffled", "rows": [row("a", 2.0 * size), row("b", 3.0 * size)]}
        for size in (64, 256)
    ]
    # One that could not be measured leaves a gap.
    tables[1]["rows"][1] = row("b", None)
    [axis] = draw(input=tables).axes
    found, _ = dots(axis)
    assert [(name, marker, value) for name, marker, _, value in found] == [
        ("a", "o", 128.0),
        ("b", "o", 192.0),
        ("a", "s", 512.0),
    ]
    texts = [text.get_text() for text in axis.texts]
    assert texts == ["128", "192", "● batch 64", "512", "■ batch 256"]
    assert axis.get_title(loc="left") == "input: shuffled; images/s, median"


def test_threads_are_columns_and_other_columns_a_panel_of_their_own():
    rows = [
        row("x.tflite, 1 thread", 4.0, "p50_ms"),
        row("x.tflite, 2 threads", 3.0, "p50_ms"),
        row("Keras, batch 1", 5.0, "p50_ms"),
        row("Keras, batch 64", 6.0, "p50_ms"),
    ]
    first, second = draw(inference=[{"title": "30 calls", "rows": rows}]).axes
    assert [dot[0] for dot in dots(first)[0]] == ["x.tflite"] * 2
    assert [dot[0] for dot in dots(second)[0]] == ["Keras"] * 2


@pytest.mark.parametrize(
    ("second", "name", "panels"),
    [("batch 256, of two", "a", 1), ("batch 256, of two", "b", 2), ("batch 64, more", "a", 2)],
)
def test_tables_with_other_rows_or_the_same_title_are_other_panels(second, name, panels):
    tables = [
        {"title": "batch 64, of two", "rows": [row("a", 1.0)]},
        {"title": second, "rows": [row(name, 2.0)]},
    ]
    assert len(draw(scaling=tables).axes) == panels


def test_a_full_benchmark_fits_a_page_and_no_text_is_cut():
    names = [f"the notebook's cell: fit, float32, generator{i}" for i in range(11)]
    tables = [
        {"title": f"batch {size}, shuffled", "rows": [row(name, 1_234_567.0) for name in names]}
        for size in (64, 256, 1024)
    ]
    lite = [f"model_{i}.tflite, {n} thread{'s' * (n > 1)}" for i in range(8) for n in (1, 2)]
    keras = [f"Keras {i}, batch {n}" for i in range(3) for n in (1, 64)]
    figure = draw(
        input=tables,
        train=[{"title": "batch 64", "rows": [row(name, 50.0) for name in names[:6]]}],
        inference=[{"title": "calls", "rows": [row(n, 9.0, "p50_ms") for n in lite + keras]}],
        export=[{"title": "apart", "rows": [row(f"format {i}", 2.5, "seconds") for i in range(9)]}],
    )
    width, height = figure.get_size_inches()
    # A4 is 1.41 times as high as wide.
    assert height <= 1.42 * width
    figure.canvas.draw()
    boxes = []
    for axis in figure.axes:
        texts = [*axis.get_yticklabels(), *axis.texts, axis._left_title]
        boxes += [text.get_window_extent().extents for text in texts if text.get_text()]
    left, bottom, right, top = np.array(boxes).T
    assert min(left.min(), bottom.min()) >= 0
    assert right.max() <= figure.bbox.x1
    assert top.max() <= figure.bbox.y1
    # Overlaps of more than a pixel, of any two.
    wide = np.minimum(right, right[:, None]) - np.maximum(left, left[:, None]) > 1
    high = np.minimum(top, top[:, None]) - np.maximum(bottom, bottom[:, None]) > 1
    assert (wide & high).sum() == len(boxes)
