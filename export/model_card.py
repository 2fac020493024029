"""``MODEL_CARD.md``: what an exported model is, what it is for, how well it does, where it fails.

The sections are those of Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019,
arXiv:1810.03993). Every figure comes from the manifest and from the run's ``metrics.json``, none
from here; times of day and latencies are left out, so that equal exports have equal cards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fer_pipeline import checkpoints, datasets, run_dir
from fer_pipeline.errors import UserError
from fer_pipeline.expressions import CLASS_NAMES

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

#: The parts of ``metrics.json`` that a card is written from.
_METRICS_KEYS = frozenset({"model_selected_on", "train", "validation", "test"})

#: What a card says of the recipe, beside the names that the run's configuration has for it.
_RECIPE = {
    "batch_size": "Batch size",
    "learning_rate": "Learning rate at the start",
    "seed": "Seed",
    "precision": "Precision of the training",
    "validation_fraction": "Share of the training images kept for validation",
    "export_checkpoint": "Exported checkpoint",
}

_TITLE = "# Model card: facial expressions on 48x48 grey faces"

_USE = """\
Intended: research and teaching on image classification, on training pipelines and on models that
run on phones; software that shows or sorts *expressions in pictures* where a wrong answer costs
nothing, with the knowledge and consent of those who are seen.

Not intended, and not to be done with it:

- conclusions about what somebody feels, thinks, intends or is. The classes name how a face looks;
  how a face looks is no reliable sign of an inner state (Barrett et al., "Emotional Expressions
  Reconsidered", Psychological Science in the Public Interest 20, 2019);
- decisions with consequences for a person: hiring, work, school and examinations, insurance,
  credit, migration, policing, justice, medicine;
- watching people without their knowledge, and identifying them.

In the European Union, Regulation (EU) 2024/1689 (the AI Act) prohibits by Article 5(1)(f) AI
systems that infer the emotions of people at the workplace and in education institutions, except
for medical or safety reasons. Elsewhere it counts emotion recognition from biometric data among
the high-risk uses (Annex III, point 1(c)) and has the people exposed to it informed
(Article 50(3)). This is a pointer and no legal advice."""

_SYNTHETIC = """\
Drawn faces that come with this software: NumPy renders them from facial action units, a seed fixes
them, and nobody is depicted. They are free of licences and of noise, and far easier than
photographs: **figures on them say that the software works, and nothing about real faces.**"""

_FER2013_TERMS = """\
FER-2013 (Goodfellow et al., "Challenges in representation learning: a report on three machine
learning contests", 2013, arXiv:1307.0414) was collected with an image search engine and released
for research. It is not part of the export, no image of it is, and whether weights fitted to it may
serve another purpose is for whoever uses them to clear."""

_OTHER_TERMS = """\
They were supplied by whoever trained the model, and their licence is not known to this software.
Where they are from FER-2013 (Goodfellow et al. 2013, arXiv:1307.0414), they are for research."""

_FACTORS = """\
Of the groups that may matter, among them age, gender, skin tone, culture, glasses, beards, head
coverings, facial paralysis and other differences of faces, none is labelled in the data, so
**no difference between groups has been measured.** That is a gap and not a finding.

Of the conditions: faces are expected upright, from the front, cropped as the training images are,
and grey. Profile views, covered or tiny faces, motion blur and poor light are other conditions
than those of the figures below. The model answers with a class for any picture whatever, one
without a face included."""

_MEASURES = """\
Accuracy is the share of images whose most probable class is their label; loss is the mean
cross-entropy in nats; precision, recall and F1 are given by class because a rare class hardly
shows in the accuracy, and macro F1 is the plain mean of the classes' F1. A probability is the
softmax' output; whether it is calibrated has not been measured, so no threshold on it is
recommended."""

_ETHICS = """\
The data may show people who never agreed to that use of their pictures. What expression a picture
shows was decided by annotators, whose culture and expectations the model repeats. A wrong answer
about a face can humiliate or harm where somebody takes it for a fact; the uses that are ruled out
above are ruled out for that reason."""

_LIMITS = """\
- Seven classes are forced upon every face; mixed and faint expressions have none.
- 48x48 grey levels hold little: much that people read in a face is gone.
- Pictures from the internet are often posed, and everyday faces look otherwise.
- Labels are noisy: on FER-2013 people agree with them on about 65±5 % of the images (Goodfellow et
  al., 2013), so figures far above that are a reason for doubt.
- Classes are unequally frequent (see the numbers of images), and rare ones are recognised worse.
- Before any use on real people, measure it on pictures from that use, by group."""


def metrics_of(run: Path, checkpoint: str) -> dict[str, Any] | None:
    """A run's ``metrics.json``, if there is one and it is of the weights that are exported.

    Args:
      run: the run directory.
      checkpoint: ``"last"`` or ``"best"``, the weights that are exported.

    Raises:
      UserError: there is one that no training run wrote.
    """
    path = run / run_dir.METRICS
    if not path.exists():
        return None
    metrics = run_dir.read_metrics(run)
    if not metrics.keys() >= _METRICS_KEYS:
        raise UserError(f"{path}: not written by a training run; restore it or delete it")
    evaluated = (metrics["epochs"], metrics["checkpoint"])
    return metrics if evaluated == (checkpoints.progress(run)[0], checkpoint) else None


def text(manifest: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    """The card as Markdown; equal arguments give equal text.

    Args:
      manifest: from ``manifest.build``.
      metrics: the ``metrics.json`` of the weights that are exported; None where they have not been
        evaluated, which the card then says.
    """
    config = manifest["run"]
    sections = {
        "Model Details": _details(manifest, metrics),
        "Intended Use": _USE,
        "Factors": _FACTORS,
        "Metrics": _MEASURES,
        "Evaluation Data": _evaluation_data(manifest, metrics),
        "Training Data": _training_data(config, metrics),
        "Quantitative Analyses": _analyses(manifest, metrics),
        "Ethical Considerations": _ETHICS,
        "Caveats and Recommendations": _LIMITS,
    }
    parts = [_TITLE, *(f"## {title}\n\n{body}" for title, body in sections.items())]
    return "\n\n".join(parts) + "\n"


def _details(manifest: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    config, versions = manifest["run"], manifest["versions"]
    facts = {
        "Network": "after a public notebook: four convolution blocks and two dense ones with batch"
        " normalisation, ReLU and dropout, then a softmax over seven classes",
        "Classes, in output order": ", ".join(manifest["labels"]),
        "Input": manifest["preprocessing"],
        "Output": manifest["postprocessing"],
        "Optimiser": "Adam; the rate falls tenfold when the validation loss stalls for two epochs;"
        " training images are mirrored at random",
        "Epochs": manifest["weights"]["epoch"] or "not known",
        **{what: config[name] for name, what in _RECIPE.items() if config.get(name) is not None},
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "Software licence": "Apache-2.0; for the data see below",
    }
    return "\n".join(f"- {what}: {value}" for what, value in facts.items())


def _evaluation_data(manifest: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    evaluation, parts = manifest["evaluation"], []
    if metrics and metrics["model_selected_on"] == "test":
        parts.append(
            "The source has no validation images of its own, so **the test images served as"
            " validation too**: they steered the learning rate and may have chosen the checkpoint."
            " The test figures are therefore optimistic; how much so is not known."
        )
    elif metrics:
        parts.append(
            "Validation images steered the learning rate and may have chosen the checkpoint; test"
            " images had no part in training."
        )
    parts.append(
        f"The files were compared with the float32 network on the {evaluation['images']:,}"
        f" validation images of `{evaluation['source']}`, and on 64 drawn faces that travel along"
        " in `golden.npz`."
    )
    return "\n\n".join(parts)


def _training_data(config: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    source = datasets.source_name(config["data"]) if "data" in config else "not known"
    if source == datasets.SYNTHETIC:
        return _SYNTHETIC
    terms = _FER2013_TERMS if _is_fer2013(config, metrics) else _OTHER_TERMS
    return f"Source: `{source}`, prepared as for evaluation. {terms}"


def _is_fer2013(config: dict[str, Any], metrics: dict[str, Any] | None) -> bool:
    if not metrics:
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
        parts += ["### The float32 network, by class, on the test images", _class_table(metrics)]
        if twin := metrics.get("twin"):
            parts.append(
                f"It was trained in {twin['policy']}; on {twin['images']:,} validation images the"
                f" network that was trained and its float32 form agree on {twin['agreement']:.2%}."
            )
    else:
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
    return "\n\n".join(parts)


def _split_table(metrics: dict[str, Any]) -> str:
    names = ["train", "validation", "test"]
    titles = {name: name for name in names}
    if metrics["model_selected_on"] == "test":
        names.remove("validation")
        titles["test"] = "test, also validation"
    rows = [
        (
            titles[name],
            f"{metrics[name]['images']:,}",
            f"{metrics[name]['accuracy']:.2%}",
            f"{metrics[name]['loss']:.4f}",
            f"{metrics[name]['macro_f1']:.3f}",
        )
        for name in names
    ]
    return _table(("split", "images", "accuracy", "loss", "macro F1"), rows)


def _class_table(metrics: dict[str, Any]) -> str:
    rows = []
    for name, row in metrics["test"]["per_class"].items():
        figures = (f"{row[measure]:.3f}" for measure in ("precision", "recall", "f1"))
        rows.append((name, *figures, f"{row['support']:,}"))
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


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
