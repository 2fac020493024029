"""Weights to start from: whose they are, which of them are taken, and what is refused."""

import json

import keras
import numpy as np
import pytest

from export.formats import keras_files
from fer_pipeline import recipes, run_dir, run_record
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.config import Config
from fer_pipeline.errors import UserError
from fer_pipeline.inference import pretrained
from fer_pipeline.models import compact_cnn, networks
from fer_pipeline.stages import initial_weights
from fer_pipeline.training import checkpoints

OWN = ("calm", "happy")


@pytest.fixture(autouse=True)
def narrow_network(monkeypatch):
    monkeypatch.setitem(compact_cnn.WIDTHS, "tiny", (4, 4, 8))


@pytest.fixture
def source():
    """A tiny network for two classes."""
    keras.utils.set_random_seed(5)
    return networks.build_model("tiny", 2)


def write_run(path, model, **settings):
    """A run directory with one finished epoch."""
    config = recipes.resolve(Config(model="tiny", classes=OWN, **settings))
    record = run_record.to_record(
        config, fingerprint="f", devices=1, versions={}, initial_weights="0123"
    )
    path.mkdir()
    (path / run_dir.CONFIG).write_text(json.dumps(record))
    for epoch, offset in ((1, 1.0), (2, 0.0)):
        weights = [array + np.float32(offset) for array in model.get_weights()]
        checkpoint = checkpoints.Checkpoint(weights, [], [], {"epoch": epoch})
        checkpoints.save(path, checkpoint, best=epoch == 1)
    return path


def test_with_the_same_classes_the_pretrained_model_answers_as_its_files_do(litert):
    found = initial_weights.load("pretrained")
    weights = initial_weights.fit(found, "compact", CLASS_NAMES, source="pretrained")
    model = networks.build_training_model("compact")
    model.set_weights(weights)
    with np.load(pretrained.FOLDER / "golden.npz") as golden:
        images = golden["images"][:8]
    content = (pretrained.FOLDER / "model_float16.tflite").read_bytes()
    # The files look at the mirror image too.
    views = (images, images[:, :, ::-1])
    ours = np.mean([model.predict(view.astype(np.float32), verbose=0) for view in views], axis=0)
    np.testing.assert_allclose(ours, litert(content, images), atol=5e-3)


@pytest.mark.parametrize("kind", ["run", "h5", "keras"])
def test_weights_come_from_runs_and_from_both_files_of_keras(source, tmp_path, kind):
    path = tmp_path / f"weights.{kind}"
    (tmp_path / "labels.txt").write_text("calm\nhappy\n")
    if kind == "run":
        write_run(path, source)
    elif kind == "h5":
        keras_files.write_weights(source, path)
    else:
        keras_files.write_archive(source, path)
    found = initial_weights.load(str(path))
    assert found.classes == OWN
    for ours, theirs in zip(found.weights, source.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_files_say_what_their_head_tells_apart(source, tmp_path, kind):
    path = tmp_path / f"weights.{kind}"
    write = keras_files.write_weights if kind == "h5" else keras_files.write_archive
    write(source, path, labels="calm\nhappy\n")
    found = initial_weights.load(str(path))
    assert (found.classes, found.named) == (OWN, True)
    write(source, path)
    found = initial_weights.load(str(path))
    assert (found.classes, found.named) == (("class 0", "class 1"), False)


def test_a_head_of_unknown_classes_is_not_kept_without_a_word(tmp_path, capsys):
    tiny = networks.build_model("tiny", 7)
    keras_files.write_weights(tiny, tmp_path / "w.h5")
    config = Config(model="tiny", init_weights=str(tmp_path / "w.h5"))
    start = initial_weights.of_run(tmp_path / "run", config, CLASS_NAMES)
    assert len(start.weights) == len(tiny.get_weights())
    said = "(nothing there names its classes; they are taken for angry, disgust, fear, happy, "
    assert said in capsys.readouterr().out
    # Its head is turned for classes in another order.
    initial_weights.of_run(tmp_path / "run", config, CLASS_NAMES[::-1])
    assert said in capsys.readouterr().out
    start = initial_weights.of_run(tmp_path / "run", config, tuple("abcdefg"))
    assert len(start.weights) == len(tiny.get_weights()) - 2
    assert capsys.readouterr().out.endswith(", a new last layer\n")


def test_labels_of_another_number_than_the_answers_are_named(source, tmp_path):
    keras_files.write_weights(source, tmp_path / "w.h5", labels="calm\nhappy\nsad\n")
    with pytest.raises(UserError, match="has 2 answers, and its labels are calm, happy, sad; corr"):
        initial_weights.load(str(tmp_path / "w.h5"))


def test_of_a_run_it_is_the_checkpoint_that_it_exports(source, tmp_path):
    write_run(tmp_path / "run", source, export_checkpoint="best")
    [first, *_] = initial_weights.load(str(tmp_path / "run")).weights
    np.testing.assert_array_equal(first, source.get_weights()[0] + np.float32(1.0))


def test_the_head_is_kept_for_the_same_classes_alone_and_in_their_order(source):
    found = initial_weights.Source(source.get_weights(), OWN)
    kernel, bias = found.weights[-2:]
    same = initial_weights.fit(found, "tiny", OWN, source="x")
    np.testing.assert_array_equal(same[-2], kernel)
    turned = initial_weights.fit(found, "tiny", OWN[::-1], source="x")
    np.testing.assert_array_equal(turned[-2], kernel[:, ::-1])
    np.testing.assert_array_equal(turned[-1], bias[::-1])
    spelled = initial_weights.fit(found, "tiny", [name.upper() for name in OWN[::-1]], source="x")
    np.testing.assert_array_equal(spelled[-2], kernel[:, ::-1])
    for others in (("calm", "sad"), ("calm", "happy", "sad"), ("calm", "CALM")):
        assert len(initial_weights.fit(found, "tiny", others, source="x")) == len(same) - 2


def test_weights_of_another_network_are_refused_by_the_first_layer_that_differs(source):
    weights = source.get_weights()

    def refuse(weights, network="tiny"):
        with pytest.raises(UserError) as raised:
            initial_weights.fit(initial_weights.Source(weights, OWN), network, OWN, source="x")
        return str(raised.value)

    said = "--init_weights=x: is of another network than --model={}, whose {} has shape {}, where "
    assert refuse(weights, "compact") == (
        said.format("compact", "stem_conv/kernel", "(5, 5, 1, 32)")
        + "it has (5, 5, 1, 4); pass the --model that it is of"
    )
    changed = [*weights[:-2], weights[-2][:, :1], weights[-1]]
    assert refuse(changed).startswith(said.format("tiny", "head/kernel", "(8, 2)") + "it has (8, 1")
    assert "head/bias has shape (2,), where it has nothing" in refuse(weights[:-1])
    assert "has more layers than --model=tiny" in refuse([*weights, weights[0]])
    broken = [weights[0] * np.float32(np.nan), *weights[1:]]
    assert refuse(broken) == (
        "--init_weights=x: holds values that are not finite; name other weights"
    )


@pytest.mark.parametrize("name", ["weights.h5", "weights.keras"])
def test_a_file_without_weights_is_one_line(tmp_path, name):
    path = tmp_path / name
    path.write_text("no weights")
    with pytest.raises(UserError) as raised:
        initial_weights.load(str(path))
    assert str(raised.value).startswith(f"--init_weights={path}: not readable (")
    assert "\n" not in str(raised.value)


def test_the_network_is_that_of_the_weights_unless_it_is_chosen(source, tmp_path):
    run = write_run(tmp_path / "run", source)

    def network(**settings):
        return recipes.resolve(initial_weights.with_network(Config(**settings))).model

    assert network(init_weights="pretrained") == "compact"
    assert network(init_weights="pretrained", model="tiny") == "tiny"
    assert network(init_weights=run) == network(init_weights=run, recipe="finetune") == "tiny"
    assert network(recipe="finetune") == "compact"
    assert network(init_weights="file.h5") == network() == "notebook"


def test_a_run_goes_on_from_its_checkpoint_when_what_it_started_from_was_trained_on(
    source, tmp_path
):
    other = write_run(tmp_path / "other", source)
    run = write_run(tmp_path / "run", source, init_weights=str(other))
    config = recipes.resolve(Config(model="tiny", init_weights=str(other)))
    initial_weights.check(run, config)
    # Its record has another digest than these weights.
    assert initial_weights.of_run(run, config, OWN) == (None, "0123")
    record = other / run_dir.CONFIG
    record.write_text(record.read_text().replace('"tiny"', '"compact"'))
    same_command = Config(init_weights=other, run_dir=run)
    assert initial_weights.with_network(same_command).model == "tiny"
    record.write_text(record.read_text().replace('"compact"', '"tiny"'))
    for path in (run / run_dir.CHECKPOINTS).iterdir():
        path.unlink()
    assert initial_weights.of_run(run, config, OWN).digest != "0123"


def test_a_run_goes_on_from_its_checkpoint_when_its_first_weights_are_gone(source, tmp_path):
    gone = str(tmp_path / "gone.h5")
    run = write_run(tmp_path / "run", source, init_weights=gone)

    def settings(**changes):
        return recipes.resolve(Config(**{"model": "tiny", "init_weights": gone} | changes))

    initial_weights.check(run, settings())
    assert initial_weights.of_run(run, settings(), OWN) == (None, "0123")
    # The network, which was that of the weights, is as little asked of them.
    same_command = Config(init_weights=gone, run_dir=run)
    assert initial_weights.with_network(same_command).model == "tiny"
    for path, other in (
        (run, settings(overwrite=True)),
        (run, settings(init_weights=f"{gone}.h5")),
        (tmp_path / "new", settings()),
    ):
        with pytest.raises(UserError, match="no such file or folder"):
            initial_weights.check(path, other)
