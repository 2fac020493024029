"""README's Python as it stands: each block by itself, on the face that ``--example`` writes."""

import ast
import inspect
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_pipeline import library
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.inference import example

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)

#: Where the blocks look for the export of README's first command.
EXPORT = "runs/synthetic-b64-lr0.0005-s0/export"

#: What the block has that trains.
TRAINS = "fer_pipeline.train("


def name_of(block):
    """The first package that a block imports beside NumPy and Pillow."""
    nodes = [node for node in ast.parse(block).body if isinstance(node, ast.Import)]
    nodes += [node for node in ast.parse(block).body if isinstance(node, ast.ImportFrom)]
    names = [getattr(node, "module", None) or node.names[0].name for node in nodes]
    return next(name for name in (n.split(".")[0] for n in names) if name not in ("numpy", "PIL"))


@pytest.fixture(scope="module")
def root(tmp_path_factory, exported):
    """A folder that looks like the repository's root after README's first commands."""
    folder = tmp_path_factory.mktemp("root")
    (folder / EXPORT).parent.mkdir(parents=True)
    (folder / EXPORT).symlink_to(exported.folder)
    (folder / "fer_pipeline").symlink_to(ROOT / "fer_pipeline")
    example.write_example([str(folder / "face.jpg")])
    return folder


@pytest.fixture(scope="module")
def expected(root, network):
    """What the network of the export says of the face."""
    face = np.asarray(Image.open(root / "face.jpg"), np.float32)
    return network.predict(face[np.newaxis, ..., np.newaxis], verbose=0)[0]


def rows(printed):
    """The rows of seven probabilities among what was printed."""
    found = re.findall(r"\[\[(.*?)\]\]", printed, re.S)
    return np.array([[float(number) for number in one.split()] for one in found])


@pytest.mark.parametrize(
    "block", [pytest.param(b, id=name_of(b)) for b in BLOCKS if TRAINS not in b]
)
def test_a_block_runs_by_itself(block, root, expected, monkeypatch, capsys):
    package = name_of(block)
    pytest.importorskip(package, reason="README says how to install it")
    monkeypatch.chdir(root)
    try:
        exec(compile(block, f"README.md ({package})", "exec"), {"__name__": "__main__"})
    except OSError as error:
        if package != "mediapipe":
            raise
        # Its library is linked with the system's OpenGL ES.
        pytest.skip(f"apt-get install libegl1 libgles2 ({error})")
    printed = capsys.readouterr().out
    if package in ("fer_pipeline", "ai_edge_litert"):
        # The pretrained model, and what README says of this face; kernels may round otherwise.
        named, probability = printed.split()[:2]
        assert named == "happy"
        assert float(probability) == pytest.approx(0.906, abs=0.02)
    elif package == "mediapipe":
        # The face passes another filter, to which this hardly trained network may answer with the
        # class that is nearly as probable.
        named, score = printed.split()
        probability = expected[CLASS_NAMES.index(named)]
        assert probability > expected.max() - 0.1
        assert float(score) == pytest.approx(probability, abs=0.1)
    else:
        found = rows(printed)
        assert found.shape == (2, 7)
        np.testing.assert_allclose(found, [expected] * 2, atol=1e-4)
    if package == "tensorflow":
        assert CLASS_NAMES[expected.argmax()] in printed


def test_all_blocks_are_known():
    assert sorted(map(name_of, BLOCKS)) == [
        *("ai_edge_litert", "fer_pipeline", "fer_pipeline", "keras", "mediapipe", "tensorflow"),
    ]


def test_the_block_that_trains_is_the_librarys_own():
    """Which ``test_library.py`` runs."""
    [block] = [block for block in BLOCKS if TRAINS in block]
    example_of_library = inspect.getdoc(library).split("::\n", 1)[1].split("\nEverything", 1)[0]
    assert block.split() == textwrap.dedent(example_of_library).split()
