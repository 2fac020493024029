"""The public names of the rooms."""

import importlib
import subprocess
import sys

import pytest

ROOMS = [
    "fer_pipeline.devices",
    "fer_pipeline.evaluation",
    "fer_pipeline.input_pipeline",
    "fer_pipeline.models",
    "fer_pipeline.stages",
    "fer_pipeline.training",
]


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_there_and_documented(room):
    package = importlib.import_module(room)
    assert package.__all__
    for name in package.__all__:
        found = getattr(package, name)
        assert found.__module__.startswith(f"{room}.")
        assert found.__doc__
    with pytest.raises(AttributeError, match=f"module '{room}' has no attribute 'missing'"):
        package.missing  # noqa: B018


def test_importing_the_rooms_imports_nothing_else():
    script = f"import sys, {', '.join(ROOMS)}; print('numpy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout == "False\n"
