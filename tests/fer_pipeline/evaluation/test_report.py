"""The report as a browser reads it: its figures, its links, and that it closes what it opens."""

import html.parser
import io
import json
import os
import re
import subprocess
import sys
import urllib.parse
from base64 import b64decode
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import report

HISTORY = "epoch,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy"

VOID = {"meta", "img", "br"}


class Node:
    """An element: its tag, attributes, children and text."""

    def __init__(self, tag, attributes):
        self.tag, self.attributes, self.children = tag, dict(attributes), []

    def all(self, tag, **wanted):
        """Every element of that tag below, whose attributes have these words."""
        found = []
        for child in self.children:
            if isinstance(child, Node):
                words = {key: (child.attributes.get(key) or "").split() for key in wanted}
                if child.tag == tag and all(wanted[key] in words[key] for key in wanted):
                    found.append(child)
                found += child.all(tag, **wanted)
        return found

    @property
    def text(self):
        return "".join(c.text if isinstance(c, Node) else c for c in self.children)


class Page(html.parser.HTMLParser):
    """Builds the tree, and fails at a tag that is not closed where it has to be."""

    def __init__(self, path):
        super().__init__()
        self.root = Node("", {})
        self._open = [self.root]
        self.feed(path.read_text("utf-8"))
        self.close()
        assert self._open == [self.root]

    def handle_starttag(self, tag, attributes):
        assert len(attributes) == len(dict(attributes))
        node = Node(tag, attributes)
        self._open[-1].children.append(node)
        if tag not in VOID:
            self._open.append(node)

    def handle_endtag(self, tag):
        assert self._open.pop().tag == tag

    def handle_data(self, text):
        self._open[-1].children.append(text)


def read(path):
    return Page(path).root


def rows(table):
    """The texts of a table's cells."""
    return [[c.text for c in row.children if isinstance(c, Node)] for row in table.all("tr")]


def section(page, key):
    [found] = page.all("section", id=key)
    return found


def test_every_part_of_a_finished_run_is_there(finished):
    page = read(report.write([finished]))
    assert [h1.text for h1 in page.all("h1")] == [finished.name]
    titles = [h2.text for h2 in page.all("h2")]
    assert titles == [
        "Results",
        "What was trained on what",
        "Images",
        "Curves",
        "Confusion matrix",
        "Classes",
        "Calibration",
        "Most confidently wrong",
        "Files",
        "Configuration",
        "Reproduce",
    ]
    # Wilson's interval of 28 in 40, by the closed form in the literature.
    assert "70.00%95% interval 54.6% to 81.9%" in section(page, "headline").text
    facts = dict(rows(section(page, "training")))
    assert facts["Network"].startswith("tiny, ")
    assert facts["Temperature"] == (
        "1.250, fitted on validation; calibration error 6.25% before, 3.12% after"
    )
    counts = rows(section(page, "images"))
    assert counts[0] == ["class", "train", "test"]
    assert counts[1] == ["<b>angry", "6", "6"]
    assert counts[-1] == ["all", "40", "40"]
    # Every epoch can be reached by the keyboard and read out; three charts have three each.
    [curves] = page.all("section", id="curves")
    points = [g.attributes["aria-label"] for g in curves.all("g", **{"class": "point"})]
    assert points[:2] == [
        "epoch 1, training 2.000, validation 3.000",
        "epoch 2, training 1.000, validation 1.500",
    ]
    assert len(points) == 9
    assert all(g.attributes["tabindex"] == "0" for g in curves.all("g", **{"class": "point"}))
    matrix = rows(section(page, "confusion").all("table")[0])
    assert matrix[0] == ["", "<b>angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
    assert matrix[1] == ["<b>angry", "467%", "233%", *["00%"] * 5]
    titles = [td.attributes.get("title") for td in section(page, "confusion").all("td")]
    assert "2 of 6 faces of “<b>angry” are called “disgust”: 33.3%" in titles
    classes = rows(section(page, "classes").all("table")[0])
    assert classes[1] == ["<b>angry", "0.250", "0.750", "0.375", "6"]
    assert classes[-1] == ["mean", "0.250", "0.750", "0.500", "40"]
    calibration = section(page, "calibration")
    bins = [g.attributes["aria-label"] for g in calibration.all("g", **{"class": "point"})]
    assert bins[0] == "confidence 0% to 7%, no image"
    assert bins[14].startswith("confidence 93% to 100%, 14 images, 13.3%")
    assert len(calibration.all("rect", **{"class": "bar"})) == 14
    assert "expected calibration error 6.25%" in calibration.text


def test_the_wrong_faces_are_those_that_were_kept(finished):
    pictures = section(read(report.write([finished])), "wrong").all("img")
    assert [image.attributes["alt"] for image in pictures] == [
        "A face labelled <b>angry that the network calls disgust, with 87.5%",
        "A face labelled surprise that the network calls sad, with 62.5%",
    ]
    content = b64decode(pictures[1].attributes["src"].removeprefix("data:image/png;base64,"))
    shown = np.asarray(PIL.Image.open(io.BytesIO(content)))
    expected = np.arange(2 * 48 * 48).reshape(2, 48, 48).astype(np.uint8)[1]
    np.testing.assert_array_equal(shown, expected)


def test_files_have_their_figures_and_links_to_what_is_there(finished, tmp_path):
    for output in (None, tmp_path / "else where" / "two.html"):
        path = report.write([finished], output)
        files = section(read(path), "files")
        table = rows(files.all("table")[0])
        assert table[1] == [
            "model_int8.tfliteLiteRT <phones>",
            *["1.23 MB", "87.50%", "98.75%", "1.2e-02", "1.50 / 2.50 ms"],
        ]
        assert table[2][3:] == ["-", "1.2e-02", "-"]
        links = [urllib.parse.unquote(a.attributes["href"]) for a in files.all("a")]
        # The third file is listed and missing.
        assert [os.path.exists(path.parent / link) for link in links] == [True, True]
        assert links[0].endswith("export/model_int8.tflite")


def test_a_file_outside_of_the_export_is_no_link(tmp_path, runs):
    run = runs.finish(tmp_path / "run")
    manifest = json.loads((run / "export/manifest.json").read_text())
    manifest["artifacts"]["int8"]["path"] = "../config.json"
    runs.write_json(run / "export/manifest.json", manifest)
    links = section(read(report.write([run])), "files").all("a")
    assert [link.text for link in links] == ["saved_model/1"]


def test_nothing_outside_of_the_file_is_asked_for(finished):
    path = report.write([finished])
    page = read(path)
    assert not page.all("script")
    assert not page.all("link")
    for node in (page, *page.all("a"), *page.all("img"), *page.all("svg")):
        for key, value in node.attributes.items():
            if key in ("href", "src"):
                assert re.match("#|data:image/png;base64,|export/", value), value
            assert not key.startswith("on")
    [style] = page.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    assert "http" not in path.read_text("utf-8")
    # Contents lead to where they say, and names of elements are there once.
    ids = [n.attributes["id"] for t in ("main", "section", "h2") for n in page.all(t)]
    assert len(ids) == len(set(ids))
    anchors = [a.attributes["href"] for a in page.all("a") if a.attributes["href"][0] == "#"]
    assert {anchor[1:] for anchor in anchors} <= set(ids)


@pytest.mark.parametrize(
    ("make", "sections", "notes"),
    [
        (
            "start",
            ["headline", "training", "configuration", "reproduce"],
            ["not finished: 0 of 3 epochs", "not been evaluated", "Nothing has been exported"],
        ),
        (
            "train",
            ["headline", "training", "curves", "configuration", "reproduce"],
            ["not been evaluated", "Nothing has been exported"],
        ),
    ],
)
def test_a_run_under_way_has_what_there_is(tmp_path, runs, make, sections, notes):
    page = read(report.write([getattr(runs, make)(tmp_path / "run")]))
    assert [node.attributes["id"] for node in page.all("section")] == sections
    found = [item.text for item in page.all("div", role="note")[0].all("li")]
    assert len(found) == len(notes)
    for line, words in zip(found, notes, strict=True):
        assert words in line


def test_what_belongs_to_other_epochs_or_failed_is_said(tmp_path, runs):
    run = runs.finish(tmp_path / "run", epochs=5)
    manifest = json.loads((run / "export/manifest.json").read_text())
    runs.write_json(run / "export/manifest.json", manifest | {"weights": {"epoch": 2}})
    history = (run / "history.csv").read_text()
    (run / "history.csv").write_text(history + "4,0.1,1,0.5,1,0.5\n")
    report_json = [{"path": "a.tflite", "failures": ["NaN"]}, {"path": "b", "failures": []}]
    runs.write_json(run / "export.failed/report.json", report_json)
    found = [item.text for item in read(report.write([run])).all("div", role="note")[0].all("li")]
    assert found == [
        "The training is not finished: 4 of 5 epochs. The same command continues it.",
        "It was last evaluated after epoch 3; 4 are trained.",
        "The exported files have the weights of epoch 2, the figures are those of epoch 3.",
        "Kept back by the export: a.tflite (NaN).",
        "Warning: no better than chance.",
    ]


def test_averaged_weights_are_named_among_the_facts(tmp_path, runs):
    for ema, said in ((0.0, False), (0.9995, True)):
        page = report.write([runs.train(tmp_path / f"run{said}", ema=ema)]).read_text()
        assert ("Moving average of the weights" in page) == said
        assert ("momentum 0.9995" in page) == said


def test_several_runs_are_side_by_side(tmp_path, runs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    both = [runs.finish(Path("one/run")), runs.train(Path("two/run"), trained=2, seed=5)]
    assert report.write(both) == Path("report.html")
    page = read(Path("report.html"))
    # Names that are the same twice are told apart by their folders.
    head = rows(section(page, "configuration"))[0]
    assert head == ["≠ marks what differs", "one/run", "two/run"]
    differing = [
        row.all("th")[0].text
        for row in section(page, "configuration").all("tr", **{"class": "differs"})
    ]
    assert differing == ["seed"]
    points = [g.attributes["aria-label"] for g in page.all("g", **{"class": "point"})]
    assert points[0] == "epoch 1, one/run 3.000, two/run 3.000"
    assert points[2] == "epoch 3, one/run 1.000"
    assert [h3.text for h3 in section(page, "confusion").all("h3")] == ["one/run"]
    assert page.all("div", role="note")[0].text.startswith("one/run: ")
    runs.start(Path("three"), fingerprint="other")
    report.write([*both, Path("three")], Path("x.html"))
    assert "different data" in read(Path("x.html")).all("div", role="note")[0].text
    with pytest.raises(UserError, match=r"one/\.\./one/run: is named twice"):
        report.write([both[0], Path("one/../one/run")])


def test_only_a_report_is_replaced(tmp_path, runs):
    run = runs.start(tmp_path / "run")
    foreign = tmp_path / "mine.html"
    foreign.write_text("<html>mine</html>")
    with pytest.raises(UserError, match=r"mine\.html: is not a report .* name another --output"):
        report.write([run], foreign)
    assert foreign.read_text() == "<html>mine</html>"
    with pytest.raises(UserError, match="is a directory"):
        report.write([run], tmp_path)
    before = report.write([run]).read_text()
    assert report.write([run]).read_text() == before
    runs.train(run)
    assert report.write([run]).read_text() != before


def test_a_report_that_cannot_be_made_stops_nothing(tmp_path, runs, capsys):
    run = runs.start(tmp_path / "run")
    (run / "metrics.json").write_text('{"epochs": 3}')
    report.update(run)
    assert re.fullmatch(r"no report: .*metrics\.json: not as .*\n", capsys.readouterr().out)
    report.update(tmp_path)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", "{"),
        ("metrics.json", "[]"),
        (
            "metrics.json",
            '{"epochs": 1, "checkpoint": "last", "model_selected_on": "test", "train": {}}',
        ),
        ("history.csv", "epoch,loss\n1,many\n"),
        ("timing.csv", "epoch\n1\n"),
        ("history.csv", f"{HISTORY}\n1,0.1,nan,0.5,1,0.5\n"),
        ("history.csv", f"{HISTORY}\n1,0.1,1,0.5,1e400,0.5\n"),
        ("export/manifest.json", '{"artifacts": []}'),
        ("figures/confidently_wrong.npz", "PK"),
        ("figures/class_counts.json", '{"train": 7}'),
    ],
)
def test_a_damaged_file_is_named(tmp_path, runs, name, content):
    run = runs.finish(tmp_path / "run")
    (run / name).write_text(content)
    with pytest.raises(UserError, match=rf"{re.escape(name)}: not (as|readable)"):
        report.write([run])


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", "-0.5", "1" + 400 * "0"])
def test_a_number_that_is_none_is_damage(tmp_path, runs, value):
    run = runs.finish(tmp_path / "run")
    text = (run / "metrics.json").read_text()
    accuracy = re.search(r'"accuracy": ([0-9.]+), "loss"', text)[1]
    (run / "metrics.json").write_text(
        text.replace(f'"accuracy": {accuracy},', f'"accuracy": {value},')
    )
    with pytest.raises(UserError, match=r"metrics\.json: not as this software writes it"):
        report.write([run])


def test_names_that_are_not_utf_8_are_shown_byte_by_byte(tmp_path, runs):
    run = runs.finish(tmp_path / os.fsdecode(b"r\xffn"), data=os.fsdecode(b"/faces/\xfe.zip"))
    text = report.write([run]).read_text("utf-8")
    assert r"<h1>r\xffn</h1>" in text
    assert r"trained on \xfe.zip." in text
    elsewhere = report.write([run], tmp_path / "out.html").read_text("utf-8")
    assert 'href="r%FFn/export/model_int8.tflite"' in elsewhere


def test_a_folder_that_is_called_synthetic_holds_no_drawn_faces(tmp_path, runs):
    for data, said in (("/faces/synthetic", "synthetic"), ("synthetic", "synthetic faces")):
        run = runs.finish(tmp_path / said, data=data)
        assert f"trained on {said}." in report.write([run]).read_text("utf-8")


def test_the_command_names_runs_and_the_file(tmp_path, runs):
    run = runs.start(tmp_path / "run")

    def call(*arguments):
        command = [sys.executable, "-X", "importtime", "-m", "fer_pipeline.report", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    result = call("run", "--output=out.html")
    assert (result.returncode, result.stdout) == (0, "out.html\n")
    assert read(tmp_path / "out.html").all("h1")[0].text == run.name
    assert "| tensorflow" not in result.stderr
    assert "| matplotlib" not in result.stderr
    for arguments, said in (([], "no run given"), (["missing"], "missing/config.json: not there")):
        result = call(*arguments)
        assert result.returncode == 1
        assert f"\nerror: {said}" in f"\n{result.stderr.splitlines()[-1]}"
