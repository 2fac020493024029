import json
import re

import pytest

from export.delivery import model_card
from export.spec import io_spec
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.errors import UserError

# FER-2013's training images by class, in the order of the class names: 28,709 in all.
FER2013 = (3995, 436, 4097, 7215, 4965, 4830, 3171)


def _split(accuracy, supports=(40,) * 7):
    rows = {
        name: {"precision": 0.5 + i / 100, "recall": 0.6, "f1": 0.7, "support": supports[i]}
        for i, name in enumerate(CLASS_NAMES)
    }
    return {
        "images": sum(supports),
        "accuracy": accuracy,
        "loss": 1.25,
        "macro_f1": 0.625,
        "per_class": rows,
    }


def _metrics(selected_on="validation", train=(400,) * 7):
    return {
        "epochs": 15,
        "checkpoint": "last",
        "model_selected_on": selected_on,
        "twin": {"policy": "mixed_bfloat16", "images": 512, "agreement": 0.9964},
        "train": _split(0.7, train),
        "validation": _split(0.61),
        "test": _split(0.5999, (40, 41, 42, 43, 44, 45, 1046)),
    }


@pytest.fixture(scope="module")
def manifest(exported):
    return json.loads((exported.folder / "manifest.json").read_text())


def _run(manifest, **config):
    return manifest | {"run": manifest["run"] | config}


def _section(card, title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)[1]


def _rows(section):
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]


def test_data_whose_name_is_not_utf_8_is_named_byte_by_byte(manifest):
    card = model_card.format_card(_run(manifest, data="/faces/\udcfe.zip"), None)
    assert r"\xfe" in card.encode().decode()


def test_the_sections_are_those_of_the_paper_in_its_order(manifest):
    card = model_card.format_card(manifest, _metrics())
    assert re.findall(r"^## (.*)", card, re.MULTILINE) == [
        "Model Details",
        "Intended Use",
        "Factors",
        "Metrics",
        "Evaluation Data",
        "Training Data",
        "Quantitative Analyses",
        "Ethical Considerations",
        "Caveats and Recommendations",
    ]


def test_figures_are_those_of_the_metrics(manifest):
    found = _rows(_section(model_card.format_card(manifest, _metrics()), "Quantitative Analyses"))
    assert ["train", "2,800", "70.00%", "1.2500", "0.625"] in found
    assert ["validation", "280", "61.00%", "1.2500", "0.625"] in found
    assert ["test", "1,301", "59.99%", "1.2500", "0.625"] in found
    assert ["surprise", "0.560", "0.600", "0.700", "1,046"] in found
    assert sum(row[0] in CLASS_NAMES for row in found) == 7


def test_every_artifact_has_a_row_with_the_manifests_figures(manifest):
    found = _rows(_section(model_card.format_card(manifest, None), "Quantitative Analyses"))
    for entry in manifest["artifacts"].values():
        [row] = [row for row in found if row[0] == f"`{entry['path']}`"]
        assert row[1] == entry["for"]
        assert float(row[2].removesuffix(" MB")) == pytest.approx(entry["size"] / 1e6, abs=0.005)
        assert float(row[3].removesuffix("%")) == pytest.approx(100 * entry["accuracy"], abs=0.005)
        assert float(row[5]) == pytest.approx(entry["max_difference"], rel=0.05, abs=1e-12)


def test_images_that_were_validation_and_test_are_one_row_and_a_warning(manifest):
    card = model_card.format_card(manifest, _metrics(selected_on="test"))
    splits = [row[0] for row in _rows(_section(card, "Quantitative Analyses"))]
    assert "test, also validation" in splits
    assert "validation" not in splits
    assert "optimistic" in _section(card, "Evaluation Data")
    assert "optimistic" not in model_card.format_card(manifest, _metrics())


def test_what_validation_images_decided_is_what_this_run_asked_them(manifest):
    assert manifest["weights"]["checkpoint"] == "last"
    plateau = _run(manifest, schedule="plateau")
    figures = dict.fromkeys(("accuracy_before", "accuracy_after", "ece_before", "ece_after"), 0.5)
    temperature = {"value": 0.9, "fitted_on": "validation"} | figures
    linear = _run(manifest, schedule="linear") | {"temperature": temperature}
    best = linear | {"weights": manifest["weights"] | {"checkpoint": "best"}}
    cards = {
        "steered the learning rate; test": plateau,
        "images fitted the temperature; test": linear,
        "images chose the checkpoint and fitted the temperature; test": best,
        "decided nothing by themselves; test": _run(manifest, schedule="linear"),
    }
    for words, changed in cards.items():
        card = model_card.format_card(changed, _metrics())
        assert words in _section(card, "Evaluation Data")
        # Test images that decided nothing as validation images make no figure too good.
        card = model_card.format_card(changed, _metrics(selected_on="test"))
        section = _section(card, "Evaluation Data")
        assert ("optimistic" in section) == ("decided nothing" not in section)


def test_without_metrics_it_says_so_and_shows_no_figures_by_class(manifest):
    card = model_card.format_card(manifest | {"weights": {"epoch": 14}}, None)
    assert "No `metrics.json` is about these weights" in card
    assert "- Epochs: 14\n" in card
    assert not [row for row in _rows(card) if row[0] in CLASS_NAMES]
    assert "None" not in card


def test_the_recipe_is_the_runs(manifest):
    config = {"batch_size": 96, "learning_rate": 3e-4, "precision": "mixed_bfloat16"}
    alone = _run(manifest, **config, teacher=None)
    details = _section(model_card.format_card(alone, _metrics()), "Model Details")
    for line in ("Batch size: 96", "start: 0.0003", "training: mixed_bfloat16"):
        assert line in details
    assert "Teachers" not in details


def test_it_says_whether_weights_were_averaged(manifest):
    averaged = _run(manifest, ema=0.9995)
    details = _section(model_card.format_card(averaged, _metrics()), "Model Details")
    assert "a moving average of the weights, momentum 0.9995\n" in details
    assert "average of the weights" not in model_card.format_card(manifest, _metrics())


def test_teachers_are_named_with_their_share_of_the_loss(manifest):
    taught = _run(manifest, teacher='wide,a_b,"old, too"', distill=0.8, temperature=2.0)
    details = _section(model_card.format_card(taught, _metrics()), "Model Details")
    share = "0.8 of the loss is how far the network is from their mean answer at temperature 2"
    assert f'- Teachers: wide, a\\_b, "old, too"; {share}\n' in details


@pytest.mark.parametrize(
    ("config", "counts", "says", "says_not"),
    [
        ({"data": "synthetic"}, (400,) * 7, "nothing about real faces", "2013"),
        ({"data": "/home/me/faces.zip"}, FER2013, "released\nfor research", "/home/me"),
        ({"data": "/home/me/faces.zip"}, (400,) * 7, "not known to this software", "/home/me"),
        (
            {"data": "/home/me/fer2013.csv", "ferplus": "fer2013new.csv"},
            (400,) * 7,
            "Labels: FER+, a majority of ten people's votes",
            "not known to this software",
        ),
    ],
)
def test_data_and_licence_are_named_without_the_path(manifest, config, counts, says, says_not):
    card = model_card.format_card(_run(manifest, **config), _metrics(train=counts))
    training = _section(card, "Training Data")
    assert says in training
    assert says_not not in card.replace(_section(card, "Caveats and Recommendations"), "")


def test_fer2013_is_known_with_validation_images_cut_off_it(manifest):
    kept = tuple(count - 40 for count in FER2013)
    metrics = _metrics(train=kept)
    for fraction, known in ((0.01, True), (None, False)):
        config = {"data": "fer.csv", "validation_fraction": fraction}
        training = _section(
            model_card.format_card(_run(manifest, **config), metrics), "Training Data"
        )
        assert ("collected with an image search engine" in training) is known


def test_the_card_is_in_the_export_and_says_what_the_model_is_not_for(exported):
    card = (exported.folder / "MODEL_CARD.md").read_text()
    use = _section(card, "Intended Use")
    for words in ("hiring", "Article 5\\(1\\)\\(f\\)", "2024/1689", "workplace"):
        assert re.search(words, use)


@pytest.mark.parametrize(
    ("config", "counts", "says", "silent_about"),
    [
        (
            {"data": "synthetic", "teacher": None},
            (400,) * 7,
            ("No picture of anybody was used", "drawings alone"),
            ("annotators", "agreed to", "unequally", "Labels are noisy", "2013", "posed"),
        ),
        (
            {"data": "faces.zip"},
            FER2013,
            ("annotators", "agreed to", "unequally frequent", "65±5 %"),
            ("drawings alone",),
        ),
        (
            {"data": "faces.zip"},
            (400, 400, 400, 400, 400, 400, 900),
            ("annotators", "agreed to", "unequally frequent", "has not been measured"),
            ("65±5 %", "posed", "drawings alone"),
        ),
        (
            {"data": "faces.zip"},
            (400,) * 7,
            ("annotators", "agreed to", "has not been measured"),
            ("65±5 %", "unequally", "drawings alone"),
        ),
    ],
)
def test_every_paragraph_is_about_the_kind_of_data(manifest, config, counts, says, silent_about):
    card = model_card.format_card(_run(manifest, **config), _metrics(train=counts))
    # Wherever a line ends.
    words = " ".join(card.replace(_section(card, "Intended Use"), "").split())
    for text in says:
        assert text in words
    for text in silent_about:
        assert text not in words


def test_of_other_classes_nothing_is_said_that_is_of_expressions_or_fer2013(manifest):
    names = ("a*b", "dozing", "yawning")
    metrics = _metrics()
    for part in ("train", "validation", "test"):
        rows = metrics[part]["per_class"].values()
        metrics[part]["per_class"] = dict(zip(names, rows, strict=False))
    own = _run(manifest, data="/home/me/faces", classes=names) | {
        "labels": list(names),
        "postprocessing": io_spec.format_postprocessing(3),
        "evaluation": manifest["evaluation"] | {"source": "faces"},
    }
    card = " ".join(model_card.format_card(own, metrics).split())
    for word in ("expression", "emotions of", "FER", "2013", "AI Act", "seven", "annotators"):
        assert word not in card
    for words in ("Three classes are forced", "depends on what the classes stand for", "hiring"):
        assert words in card
    assert "what they stand for is not known" in card
    for start, said in (("pretrained", "made from FER-2013"), ("mine", "nothing is known here")):
        card = model_card.format_card(_run(own, init_weights=start), metrics)
        assert said in " ".join(_section(card, "Training Data").split())


def test_a_folder_that_is_called_as_the_drawn_faces_are_holds_others(manifest):
    config = {"data": "./synthetic", "init_weights": "./pretrained"}
    card = " ".join(model_card.format_card(_run(manifest, **config), _metrics()).split())
    assert "Source: `synthetic`" in card
    assert "on data of which nothing is known here" in card
    for words in ("No picture of anybody", "nobody is depicted", "the pretrained one of this"):
        assert words not in card


@pytest.mark.parametrize(
    "begun",
    [
        {"init_weights": "pretrained", "teacher": None},
        {"teacher": "wide"},
        {"teacher": "pretrained"},
    ],
)
def test_drawn_faces_are_not_all_that_a_network_has_seen_that_was_taught_before(manifest, begun):
    card = model_card.format_card(_run(manifest, data="synthetic", **begun), _metrics())
    for words in ("No picture of anybody", "drawings alone", "belong to no group"):
        assert words not in " ".join(card.split())
    data = " ".join(_section(card, "Training Data").split())
    assert "trained before" in data
    assert ("made from FER-2013" in data) == ("pretrained" in begun.values())


@pytest.mark.parametrize(
    ("epochs", "checkpoint", "theirs"),
    [(15, "last", True), (15, "best", False), (9, "last", False)],
)
def test_metrics_count_if_they_are_of_the_exported_weights(tmp_path, epochs, checkpoint, theirs):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/epoch_0015.npz").touch()
    metrics = _metrics() | {"epochs": epochs}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    found = model_card.read_matching_metrics(tmp_path, checkpoint, 15)
    assert found == (metrics if theirs else None)


def test_a_run_in_training_has_no_metrics_and_a_stranger_s_are_refused(tmp_path):
    assert model_card.read_matching_metrics(tmp_path, "last", 15) is None
    (tmp_path / "metrics.json").write_text('{"epochs": 15, "checkpoint": "last"}')
    with pytest.raises(UserError, match=r"metrics\.json: not written by a training run"):
        model_card.read_matching_metrics(tmp_path, "last", 15)
