"""One source of a run's settings: flags, config.json and Python agree."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from fer_pipeline import recipes, run_dir, run_record
from fer_pipeline.config import Config
from fer_pipeline.errors import UserError

FACTS = {
    "fingerprint": "f" * 64,
    "devices": 1,
    "versions": {"numpy": "2"},
    "teachers": [],
    "initial_weights": None,
    "exclude_sha256": None,
    "ferplus_sha256": None,
}

AUGMENT = "{!r} is none of flip, shift:0..24, rotate:0..180, zoom:0..0.9, cutout:0..48"

#: A value that is out of range, and what every way in says of it.
OUT_OF_RANGE = [
    ("epochs", 0, "must be a whole number from 1"),
    ("batch_size", -1, "must be a whole number from 1"),
    ("learning_rate", float("nan"), "must be a number above 0"),
    ("learning_rate", 0.0, "must be a number above 0"),
    ("seed", 2**32, "must be a whole number from 0 and up to 4,294,967,295"),
    ("precision", "float8", "must be one of auto, float32, mixed_bfloat16, mixed_float16, float64"),
    ("validation_fraction", 1.0, "must be a number above 0 and below 1"),
    ("checkpoint_minutes", float("inf"), "must be a number from 0"),
    ("join_minutes", 0.0, "must be a number above 0"),
    ("model", "huge", "must be one of notebook, compact, tiny, wide"),
    ("label_smoothing", float("nan"), "must be a number from 0 and up to 1"),
    ("weight_decay", float("inf"), "must be a number from 0"),
    ("temperature", 0.0, "must be a number above 0"),
    ("dropout", 1.0, "must be a number from 0 and below 1"),
    ("augment", "tilt:3", AUGMENT.format("tilt:3")),
    ("freeze", "head", "must be a number of layers from 0, or backbone"),
    ("threads", 5000, "must be a whole number from 1 and up to 4,096"),
]

#: Values of the wrong type.
WRONG_TYPE = [
    ("epochs", "15", "must be a whole number from 1"),
    ("epochs", True, "must be a whole number from 1"),
    ("deterministic", 1, "must be true or false"),
    ("cache_dir", 3, "must be a text"),
    ("learning_rate", "fast", "must be a number above 0"),
]


def record(**changes):
    return run_record.to_record(recipes.resolve(Config()), **FACTS) | changes


@pytest.mark.parametrize(("name", "value", "said"), OUT_OF_RANGE + WRONG_TYPE)
def test_python_and_json_refuse_the_same_values(tmp_path, name, value, said):
    with pytest.raises(UserError) as raised:
        Config(**{name: value})
    assert str(raised.value) == f"--{name}={value}: {said}"
    (tmp_path / run_dir.CONFIG).write_text(json.dumps(record(**{name: value})))
    with pytest.raises(UserError) as raised:
        run_dir.read_config(tmp_path)
    assert f"its {name} is {value!r} and {said}; restore it" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, value, _ in OUT_OF_RANGE] + [("epochs", "many")]
)
def test_flags_refuse_them_before_tensorflow_is_imported(name, value):
    script = (
        "import sys; sys.argv = ['train', sys.argv[1]]; from fer_pipeline.train import run\n"
        "try:\n    run()\nfinally:\n    assert 'tensorflow' not in sys.modules"
    )
    command = [sys.executable, "-c", script, f"--{name}={value}"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"--{name}={value}" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_numpy_scalars_and_paths_become_plain_values(tmp_path):
    config = Config(batch_size=np.int64(32), learning_rate=np.float32(0.25), run_dir=tmp_path)
    assert (config.batch_size, config.learning_rate) == (32, 0.25)
    assert type(config.batch_size) is int
    assert config.run_dir == str(tmp_path)


def test_a_number_that_no_float_holds_is_judged_like_any_other():
    assert Config(epochs=10**400).epochs == 10**400
    with pytest.raises(UserError, match="must be a whole number from 0 and up to 4,294,967,295"):
        Config(seed=10**400)


def test_an_unknown_setting_is_refused_everywhere(tmp_path):
    with pytest.raises(TypeError, match="epoch"):
        Config(epoch=3)
    (tmp_path / run_dir.CONFIG).write_text(json.dumps(record(epoch=3)))
    with pytest.raises(
        UserError, match="its setting 'epoch' is not known to this version; remove it"
    ):
        run_dir.read_config(tmp_path)


def test_the_record_holds_every_setting_but_the_place_of_the_run():
    found = record(jit_compile=True)
    names = {field.name for field in dataclasses.fields(Config)}
    assert set(found) == names - {"run_dir", "overwrite"} | set(FACTS)
    assert run_record.record_problem(found) is None
    assert run_record.record_problem(record(jit_compile=False)) is None


def test_settings_that_an_older_version_lacks_are_no_problem():
    old = {name: value for name, value in record().items() if name not in ("threads", "seed")}
    assert run_record.record_problem(old) is None
    assert run_record.with_defaults(old)["seed"] == 0
    before = {"data": "synthetic", "deterministic": False}
    known = {"fingerprint": "f" * 64, "teachers": []}
    now = run_record.known_resume_key(recipes.resolve(Config())) | known
    assert now.items() <= (run_record.with_defaults(before) | known).items()
    assert "threads" not in run_record.with_defaults(old)


def test_a_continued_run_needs_the_same_bits_of_settings_only_if_it_is_deterministic():
    always = {"batch_size", "learning_rate", "seed", "precision", "deterministic", "fingerprint"}
    always |= {"model", "teachers", "classes", "exclude_sha256", "initial_weights", "freeze"}
    always |= {*recipes.RECIPES["notebook"]} - {"calibrate", "init_weights"}
    always |= {"class_weight", "ferplus_labels"}
    assert set(run_record.resume_key(record())) == always
    exact = run_record.resume_key(record(deterministic=True))
    assert set(exact) == always | {"threads", "jit_compile", "devices"}


def test_what_auto_decides_is_not_known_before_the_device():
    assert "precision" not in run_record.known_resume_key(recipes.resolve(Config()))
    assert (
        run_record.known_resume_key(recipes.resolve(Config(precision="float32")))["precision"]
        == "float32"
    )
