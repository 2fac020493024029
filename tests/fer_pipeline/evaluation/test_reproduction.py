"""The command that makes a run again, read back as the command line reads it."""

import dataclasses
import shlex
from pathlib import Path

import pytest

from fer_pipeline import config as config_lib
from fer_pipeline import recipes, run_record
from fer_pipeline.config import Config
from fer_pipeline.evaluation import reproduction


def parse(command):
    """The flags of a command as settings."""
    python, option, module, *flags = shlex.split(command)
    assert (python, option, module) == ("python", "-m", "fer_pipeline.train")
    found = {}
    for flag in flags:
        name, equals, value = flag.removeprefix("--").partition("=")
        if equals:
            found[name] = config_lib.value_types()[name][0](value)
        else:
            found[name.removeprefix("no")] = not name.startswith("no")
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"data": "/my faces/it's.zip", "epochs": 3, "seed": 7, "validation_fraction": 0.1},
        {"recipe": "tuned", "model": "wide", "augment": "flip,shift:3", "dropout": 0.25},
        {"recipe": "tuned", "optimizer": "adam"},
        {"optimizer": "muon", "learning_rate": 5e-4},
        {"deterministic": True, "threads": 3, "tensorboard": True, "learning_rate": 1e-05},
        # Of folders "B" and "a" the names would be these in the other order.
        {"data": "faces", "classes": 'A,b,"c, ""d""",--e," f "'},
        {"data": "faces", "classes": "Angry,Disgust,Fear,Happy,Neutral,Sad,Surprise"},
    ],
)
def test_the_command_has_the_settings_of_the_run(settings):
    config = recipes.resolve(Config(**settings | {"precision": "float32", "jit_compile": "false"}))
    record = run_record.to_record(config, fingerprint="", devices=1, versions={})
    again = parse(reproduction.training_command(Path("runs/a b"), record))
    assert again.pop("run_dir") == "runs/a b-again"
    repeated = dataclasses.asdict(recipes.resolve(Config(**again)))
    if not config.deterministic:
        # XLA is left to the device then.
        assert "jit_compile" not in again
        repeated["jit_compile"] = "false"
    expected = dataclasses.asdict(config)
    assert repeated == expected
    # What a plain start chooses itself is not typed.
    assert len(again) <= len(settings) + 2


def test_the_check_of_an_export_is_quoted():
    assert reproduction.verify_command(Path("a b")) == (
        "python -m export '--run_dir=a b' --verify_only"
    )
