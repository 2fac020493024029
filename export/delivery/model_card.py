"""``MODEL_CARD.md``: what an exported model is, what it is for, how well it does, where it fails.

The sections are those of Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019,
arXiv:1810.03993). Every figure comes from the manifest and from the run's ``metrics.json``, none
from here; times of day and latencies are left out, so that equal exports have equal cards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from export.delivery import model_card_texts as texts
from export.spec import io_spec
from fer_pipeline import atomic_files, datasets, recipes, run_dir
from fer_pipeline import classes as classes_lib
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.errors import UserError
from fer_pipeline.inference import pretrained
from fer_pipeline.stages import teachers
from fer_pipeline.training import checkpoints

#: Training images of each class in FER-2013, by which it is recognised under any file name.
_FER2013 = {
    "angry": 3995,
    "disgust": 436,
    "fear": 4097,
    "happy": 7215,
    "neutral": 4965,
    "sad": 4830,
    "surprise": 3171,
}

#: The most frequent class has so many times the images of the rarest where that is worth a word.
_UNEQUAL = 1.5

#: What Markdown takes for more than itself inside a line.
_MARKDOWN = frozenset("\\`*_[]<>|#~$&")

#: The parts of ``metrics.json`` that a card is written from.
_METRICS_KEYS = frozenset({"model_selected_on", "train", "validation", "test"})

#: What a card says of the recipe, beside the names that the run's configuration has for it.
_RECIPE = {
    "init_weights": "Started from the weights of",
    "batch_size": "Batch size",
    "learning_rate": "Learning rate at the start",
    "seed": "Seed",
    "precision": "Precision of the training",
    "validation_fraction": "Share of the training images kept for validation",
    "export_checkpoint": "Exported checkpoint",
}


def read_matching_metrics(run: Path, checkpoint: str, epoch: int) -> dict[str, Any] | None:
    """A run's ``metrics.json``, if there is one and it is of the weights that are exported.

    Args:
      run: the run directory.
      checkpoint: ``"last"`` or ``"best"``, the weights that are exported.
      epoch: how many epochs made them.

    Raises:
      UserError: there is one that no training run wrote.
    """
    path = run / run_dir.METRICS
    if not path.exists():
        return None
    metrics = run_dir.read_metrics(run)
    if not metrics.keys() >= _METRICS_KEYS:
        raise UserError(f"{path}: not written by a training run; restore it or delete it")
    if metrics["checkpoint"] != checkpoint:
        return None
    if "epoch" in metrics:
        return metrics if metrics["epoch"] == epoch else None
    # An earlier version of this software wrote down how many epochs were trained in all.
    trained = epoch if checkpoint == "last" else checkpoints.progress(run)[0]
    return metrics if metrics["epochs"] == trained else None


def format_card(manifest: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    """The card as Markdown; equal arguments give equal text.

    Args:
      manifest: from ``manifest.build``.
      metrics: the ``metrics.json`` of the weights that are exported; None where they have not been
        evaluated, which the card then says.
    """
    config = manifest["run"]
    kind, classes = _kind(config, metrics), manifest["labels"]
    own = tuple(classes) != CLASS_NAMES
    # Weights and teachers from elsewhere bring along what photographs taught them.
    drawn = kind == "synthetic" and not (config.get("init_weights") or config.get("teacher"))
    ethics = texts.ETHICS_OWN if own else texts.ETHICS
    sections = {
        "Model Details": _details(manifest, metrics),
        "Intended Use": texts.USE_OWN if own else texts.USE,
        "Factors": texts.FACTORS_SYNTHETIC if drawn else texts.FACTORS,
        "Metrics": _measures(metrics),
        "Evaluation Data": _evaluation_data(manifest, metrics),
        "Training Data": _training_data(config, kind, own=own),
        "Quantitative Analyses": _analyses(manifest, metrics),
        "Ethical Considerations": texts.ETHICS_SYNTHETIC if drawn else ethics,
        "Caveats and Recommendations": _limits(kind, metrics, len(classes), own=own, drawn=drawn),
    }
    title = texts.OWN_TITLE if own else texts.TITLE
    parts = [title, *(f"## {title}\n\n{body}" for title, body in sections.items())]
    # The data may have any name.
    return atomic_files.to_utf8("\n\n".join(parts) + "\n")


def _details(manifest: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    config, versions = manifest["run"], manifest["versions"]
    network = config.get("model", "notebook")
    facts = {
        "Network": texts.NETWORKS["notebook" if network == "notebook" else "compact"].format(
            classes=_count(len(manifest["labels"]))
        ),
        "Classes, in output order": ", ".join(
            _escaped(classes_lib.quoted(name)) for name in manifest["labels"]
        ),
        "Input": manifest["preprocessing"],
        "Output": manifest["postprocessing"],
        "Optimiser": _optimiser(config),
        **({"Teachers": _teachers(config)} if config.get("teacher") else {}),
        "Epochs": manifest["weights"]["epoch"] or "not known",
        **{what: config[name] for name, what in _RECIPE.items() if config.get(name) is not None},
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "Software licence": "Apache-2.0; for the data see below",
    }
    return "\n".join(f"- {what}: {value}" for what, value in facts.items())


def _optimiser(config: dict[str, Any]) -> str:
    """How the weights were fitted; what an older run did not record was so."""
    name = texts.OPTIMIZERS[config.get("optimizer", "adam")]
    schedule = texts.SCHEDULES[config.get("schedule", "plateau")]
    changes, ema = config.get("augment", "flip"), config.get("ema", 0.0)
    augmented = (
        "training images are mirrored at random" if changes == "flip" else f"augmentation {changes}"
    )
    averaged = f"; a moving average of the weights, momentum {ema}" if ema else ""
    return f"{name}; {schedule}; {augmented}{averaged}"


def _teachers(config: dict[str, Any]) -> str:
    """Whose answers the network learned beside the labels, and how much they count."""
    names = ", ".join(
        _escaped(classes_lib.quoted(name)) for name in teachers.names(config["teacher"])
    )
    share, temperature = (recipes.recorded(config, name) for name in ("distill", "temperature"))
    return (
        f"{names}; {share:g} of the loss is how far the network is from their mean answer at"
        f" temperature {temperature:g}"
    )


def _measures(metrics: dict[str, Any] | None) -> str:
    measured = metrics and "calibration" in metrics["test"]
    return f"{texts.MEASURES}\n{texts.CALIBRATION if measured else texts.UNCALIBRATED}"


def _evaluation_data(manifest: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    evaluation, parts = manifest["evaluation"], []
    decided = _decided(manifest)
    said = decided or "showed how the training went, and decided nothing by themselves"
    if metrics and metrics["model_selected_on"] == "test":
        biased = " The test figures may therefore be optimistic; how much so is not known."
        parts.append(
            "The source has no validation images of its own, so **the test images served as"
            f" validation too**: they {said}.{biased if decided else ''}"
        )
    elif metrics:
        parts.append(f"Validation images {said}; test images had no part in training.")
    parts.append(
        f"The files were compared with the float32 network on the {evaluation['images']:,}"
        f" validation images of `{evaluation['source']}`, and on 64 drawn faces that travel along"
        " in `golden.npz`."
    )
    return "\n\n".join(parts)


def _decided(manifest: dict[str, Any]) -> str:
    """What validation images decided, as words after their name; empty if nothing."""
    decided = {
        "steered the learning rate": manifest["run"].get("schedule", "plateau") == "plateau",
        "chose the checkpoint": manifest["weights"].get("checkpoint") == "best",
        "fitted the temperature": "temperature" in manifest,
    }
    return " and ".join(what for what, so in decided.items() if so)


def _kind(config: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    """What the training data are: ``"synthetic"``, ``"fer2013"`` or ``"other"``."""
    if config.get("data") == datasets.SYNTHETIC:
        return "synthetic"
    # With FER+ fewer of its faces have a label.
    return "fer2013" if config.get("ferplus") or _is_fer2013(config, metrics) else "other"


def _training_data(config: dict[str, Any], kind: str, *, own: bool) -> str:
    parts = [texts.SYNTHETIC]
    if kind != "synthetic":
        source = datasets.source_name(config["data"]) if "data" in config else "not known"
        parts = [f"Source: `{source}`, prepared as for evaluation."]
        parts += [texts.FERPLUS] if config.get("ferplus") else []
        parts.append(texts.FER2013_TERMS if kind == "fer2013" else texts.OTHER_TERMS)
        parts += [texts.MAYBE_FER2013_TERMS] if kind == "other" and not own else []
    if start := config.get("init_weights"):
        parts.append(texts.PRETRAINED_TERMS if start == pretrained.NAME else texts.STARTED_TERMS)
    if taught := config.get("teacher"):
        ours = pretrained.NAME in teachers.names(taught)
        parts.append(texts.PRETRAINED_TAUGHT_TERMS if ours else texts.TAUGHT_TERMS)
    return " ".join(parts)


def _limits(
    kind: str, metrics: dict[str, Any] | None, num_classes: int, *, own: bool, drawn: bool
) -> str:
    others = texts.OTHERS_OWN if own else texts.OTHERS
    lines = [texts.LIMITS.format(classes=_count(num_classes).capitalize(), others=others)]
    lines += {
        "synthetic": [texts.LIMITS_SYNTHETIC] if drawn else [],
        "fer2013": [texts.LIMITS_FER2013],
        "other": [texts.LIMITS_OTHER],
    }[kind]
    if kind == "other" and metrics:
        counts = [row["support"] for row in metrics["train"]["per_class"].values()]
        if max(counts) > _UNEQUAL * min(counts):
            lines.append(texts.LIMITS_UNEQUAL)
    return "\n".join([*lines, texts.ADVICE])


def _is_fer2013(config: dict[str, Any], metrics: dict[str, Any] | None) -> bool:
    if not metrics or tuple(metrics["train"]["per_class"]) != CLASS_NAMES:
        return False
    # Validation images that were cut off the training images belong to them.
    parts = ["train", "validation"] if config.get("validation_fraction") else ["train"]
    counts = {
        name: sum(metrics[part]["per_class"][name]["support"] for part in parts)
        for name in CLASS_NAMES
    }
    return counts == _FER2013


def _analyses(manifest: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    parts = []
    if metrics:
        parts += ["### The float32 network, by split", _split_table(metrics)]
        parts += _calibration(manifest.get("temperature"), metrics)
        title = "### The float32 network, by class, on the test images"
        parts += [title, _class_table(metrics["test"])]
        if new := metrics["test"].get("without_duplicates"):
            parts += [f"{title} that are no training images", texts.WITHOUT_DUPLICATES]
            parts.append(_class_table(new))
        if compared := metrics.get("twin"):
            parts.append(
                f"It was trained in {compared['policy']}; on {compared['images']:,} validation "
                "images the network that was trained and its float32 form agree on "
                f"{compared['agreement']:.2%}."
            )
    else:
        parts += _calibration(manifest.get("temperature"), None)
        parts.append(
            "No `metrics.json` is about these weights (they were exported before their run had"
            " ended, or are another checkpoint than was evaluated), so there are no figures by"
            " split or by class."
        )
    evaluation = manifest["evaluation"]
    gated = "" if evaluation["accuracy_gated"] else ", too few to hold a file to its accuracy"
    parts += [
        "### The files",
        _artifact_table(manifest["artifacts"]),
        f"Each file was opened by its own runtime and run on {evaluation['images']:,} images"
        f"{gated}; the float32 network's accuracy on them is"
        f" {evaluation['float32_twin_accuracy']:.2%}. Agreement is the share of images whose first"
        " class is that network's, the difference that of any probability. `manifest.json` has the"
        f" limits, latencies, inputs and outputs. Processor: {manifest['machine']['processor']}.",
    ]
    if manifest.get("mirror"):
        parts.append(mirrored(manifest))
    parts += [f"**Warning:** {warning}." for warning in manifest.get("warnings", ())]
    for entry in manifest.get("kept_back", {}).values():
        parts.append(f"`{entry['path']}` is not in this export: {', '.join(entry['failures'])}.")
    return "\n\n".join(parts)


def mirrored(manifest: dict[str, Any]) -> str:
    """What a mirrored export's card says of that."""
    evaluation = manifest["evaluation"]
    plain = [f"`{e['path']}`" for e in manifest["artifacts"].values() if not e["mirrored"]]
    also = f" Not mirrored: {', '.join(plain)}, the network as it was trained." if plain else ""
    return (
        "The files average a face and its mirror image inside, at twice the arithmetic; the"
        " float32 network that they are compared with does so too. On the same images it is right"
        f" about {evaluation['float32_twin_accuracy']:.2%}, and about"
        f" {evaluation['float32_twin_accuracy_without_mirror']:.2%} without the mirror image, as in"
        " the figures by split and by class. A delegate may leave the reversing of the image to the"
        f" processor (not tested).{also}"
    )


def _split_table(metrics: dict[str, Any]) -> str:
    names = ["train", "validation", "test"]
    titles = {name: name for name in names}
    if metrics["model_selected_on"] == "test":
        names.remove("validation")
        titles["test"] = "test, also validation"
    shown = {titles[name]: metrics[name] for name in names}
    if new := metrics["test"].get("without_duplicates"):
        shown["test, without those that are training images"] = new
    header = ["split", "images", "accuracy", "loss", "macro F1"]
    rows = [
        [
            title,
            f"{split['images']:,}",
            f"{split['accuracy']:.2%}",
            f"{split['loss']:.4f}",
            f"{split['macro_f1']:.3f}",
        ]
        for title, split in shown.items()
    ]
    # Earlier versions of this software did not measure these.
    if all("balanced_accuracy" in split for split in shown.values()):
        header.append("balanced accuracy")
        for row, split in zip(rows, shown.values(), strict=True):
            row.append(f"{split['balanced_accuracy']:.2%}")
    if all("calibration" in split for split in shown.values()):
        header.append("calibration error")
        for row, split in zip(rows, shown.values(), strict=True):
            row.append(f"{split['calibration']['ece']:.4f}")
    return _table(header, rows)


def _calibration(temperature: dict[str, Any] | None, metrics: dict[str, Any] | None) -> list[str]:
    """What is to be said of the exported network's temperature, a paragraph each."""
    lines = []
    if temperature:
        also = "" if temperature["fitted_on"] == "validation" else ", which are the test images too"
        lines.append(
            f"The logits are divided by a temperature of {temperature['value']:.3f}, which was"
            f" fitted on the validation images{also}. It is part of the weights and changes no"
            " class: the accuracy on the test images is"
            f" {temperature['accuracy_before']:.2%} without and"
            f" {temperature['accuracy_after']:.2%} with it, their calibration error"
            f" {temperature['ece_before']:.4f} and {temperature['ece_after']:.4f}."
        )
    evaluated = (metrics or {}).get("temperature")
    if metrics and evaluated != temperature:
        which = f"with the temperature {evaluated['value']:.3f}" if evaluated else "without one"
        lines.append(
            f"Losses and calibration errors in the table were measured {which}, which is not how"
            " the network was exported."
        )
    return lines


def _class_table(split: dict[str, Any]) -> str:
    rows = []
    for name, row in split["per_class"].items():
        figures = (f"{row[measure]:.3f}" for measure in ("precision", "recall", "f1"))
        rows.append((_escaped(name), *figures, f"{row['support']:,}"))
    return _table(("class", "precision", "recall", "F1", "images"), rows)


def _artifact_table(artifacts: dict[str, Any]) -> str:
    rows = [
        (
            f"`{entry['path']}`",
            entry["for"],
            f"{entry['size'] / 1e6:.2f} MB",
            f"{entry['accuracy']:.2%}",
            f"{entry['agreement']:.2%}",
            f"{entry['max_difference']:.1e}",
        )
        for entry in artifacts.values()
    ]
    header = ("file", "for", "size", "accuracy", "agreement", "largest difference")
    return _table(header, rows)


def _count(number: int) -> str:
    """A number of classes in words."""
    return io_spec.in_words(number)


def _escaped(name: str) -> str:
    """A name of a class as Markdown that shows it, in a table too."""
    return "".join(f"\\{c}" if c in _MARKDOWN else c for c in name)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
