"""Predictions as data, as a table, as JSON lines and as CSV."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.inference import results
from fer_pipeline.inference.results import Prediction

ROW = [0.125, 0.0, 0.0625, 0.5, 0.25, 0.0, 0.0625]
WHOLE = Prediction.of(ROW, file="a b.png")
#: A name of two lines and a byte that is not UTF-8, and the second of two equal classes.
ODD = Prediction.of(ROW[::-1], file="two\nlines\udcff.png", frame=3, box=(1, 2, 30, 40), track=5)
NOBODY = Prediction.of_nobody("wall.png")


def test_a_prediction_is_plain_data():
    assert (WHOLE.label, ODD.label) == ("happy", "happy")
    assert Prediction.of(np.full(7, 1 / 7)).label == CLASS_NAMES[0]
    found = json.loads(json.dumps(dataclasses.asdict(ODD)))
    assert found["box"] == [1, 2, 30, 40]
    assert list(found["probabilities"].values()) == ROW[::-1]
    assert [name for name, _ in WHOLE.ranked()][:3] == ["happy", "neutral", "angry"]


def test_json_is_an_object_a_line():
    write = results.writer("json")
    lines = (write([WHOLE]) + write([]) + write([ODD])).splitlines()
    first, second = map(json.loads, lines)
    assert first == {
        "file": "a b.png",
        "frame": None,
        "box": None,
        "track": None,
        "label": "happy",
        "probabilities": dict(zip(CLASS_NAMES, ROW, strict=True)),
    }
    assert (second["file"], second["frame"], second["box"]) == (ODD.file, 3, [1, 2, 30, 40])
    assert second["track"] == 5
    empty = dict.fromkeys(("frame", "box", "track", "label", "probabilities"))
    assert json.loads(write([NOBODY])) == {"file": "wall.png"} | empty


def test_csv_has_one_header_and_a_column_for_everything():
    write = results.writer("csv")
    text = write([WHOLE]) + write([ODD])
    text.encode()
    first, second = csv.DictReader(io.StringIO(text, newline=""))
    assert first["file"] == "a b.png"
    assert [first[name] for name in ("frame", "left", "top", "width", "height")] == [""] * 5
    assert second["file"] == "two\nlines\\xff.png"
    assert [second[name] for name in ("frame", "left", "height", "label")] == [*"31", "40", "happy"]
    assert [float(first[name]) for name in CLASS_NAMES] == ROW
    assert second["track"] == "5"
    assert write([NOBODY]) == "wall.png" + "," * 14 + "\n"


def test_the_table_is_aligned_and_a_row_is_a_line():
    write = results.writer("table", top=3, everything=True)
    header, first, second = (write([WHOLE, ODD]) + write([])).splitlines()
    assert header.split() == ["file", "expression", "probability", "2nd", "3rd", *CLASS_NAMES]
    assert first.startswith("a b.png  ")
    assert second.startswith(r"two\nlines\\xff.png  ")
    assert first.split("  ")[-1].strip() == "6.2 %"
    cells = [cell.strip() for cell in first.split("  ") if cell.strip()]
    assert cells[1:5] == ["happy", "50.0 %", "neutral 25.0 %", "angry 12.5 %"]
    assert second.endswith("  frame 3, face 5")
    assert len(header) == len(first) == len(second.removesuffix("  frame 3, face 5"))
    boxed = dataclasses.replace(ODD, frame=None, track=None)
    assert write([boxed]).endswith("  30x40 at 1,2\n")
    assert write([NOBODY]).split() == ["wall.png", "no", "face"]
    # The header is written once.
    assert len(write([WHOLE]).splitlines()) == 1


@pytest.mark.parametrize("top", [1, 2, 7])
def test_so_many_expressions_are_named(top):
    row = results.writer("table", top=top)([WHOLE]).splitlines()[1]
    assert row.count("%") == top


@pytest.mark.parametrize("columns", [None, 80, 200])
def test_further_expressions_are_below_where_a_row_has_no_room(columns):
    boxed = dataclasses.replace(WHOLE, box=(1000, 2000, 1300, 1400))
    write = results.writer("table", top=3, width=12, columns=columns)
    lines = (write([boxed, NOBODY]) + write([WHOLE])).splitlines()
    if columns != 80:
        assert lines[1].split("  ")[-1] == "1300x1400 at 1000,2000"
        assert len(lines) == 4
        return
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["file", "expression", "probability"]
    assert lines[1].startswith("a b.png       happy")
    assert lines[1].endswith("50.0 %  1300x1400 at 1000,2000")
    assert [line.split() for line in lines[2:4]] == [
        ["neutral", "25.0", "%"],
        ["angry", "12.5", "%"],
    ]
    assert {line.rindex("%") for line in lines[1:4] if "%" in line} == {lines[1].index("%")}
    assert [len(line.split()) for line in lines[4:]] == [3, 5, 3, 3]
