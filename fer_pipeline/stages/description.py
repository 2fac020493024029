"""Describes a data set, and asks a model which of its labels to doubt."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fer_pipeline import atomic_files, cores, datasets, run_dir
from fer_pipeline import classes as classes_lib
from fer_pipeline.datasets import description, exclusion, layout, run_data, splitting
from fer_pipeline.datasets.description import Description
from fer_pipeline.datasets.splits import Faces, fingerprint
from fer_pipeline.datasets.splitting import Positions
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import description_figure, description_page, label_doubts, plots
from fer_pipeline.evaluation.description_page import Doubted
from fer_pipeline.images import OnBadImage
from fer_pipeline.inference import integrity, model_loader, pretrained
from fer_pipeline.terminal.tables import format_table

#: The files that a description consists of.
PAGE, FIGURE, DOUBTFUL = "description.html", "description.png", "doubtful.csv"


class Described(NamedTuple):
    """A description, the doubts of a model if one was asked, and the files written."""

    data: Description
    doubted: Doubted | None
    files: list[Path]


def describe(
    source: str,
    folder: Path,
    *,
    model: str | None = None,
    splits: Sequence[str] | None = None,
    folds: int | None = None,
    on_bad_image: OnBadImage = "fail",
    overwrite: bool = False,
) -> Described:
    """Describes a data set and writes its page, figure and, with a model, its doubtful labels.

    Args:
      source: as for ``datasets.load``.
      folder: where to write.
      model: what ``inference.model_loader`` opens, or ``"pretrained"``; None asks no model.
      splits: which images to ask it about; None is all but the training images.
      folds: in place of a model: as many small networks are trained, each without one of so many
        parts of the training images, and asked about that part.
      on_bad_image: as for ``datasets.load``.
      overwrite: whether a list of doubtful labels may be replaced, which may have been edited.

    Raises:
      UserError: bad data, no such model, or a file that cannot be written or is to be kept.
    """
    check_folder(folder, listing=bool(model or folds), overwrite=overwrite)
    path = model_path(model) if model else None
    record = training_record(path) if path else None
    names = model_loader.named_classes(path) if path else None
    faces = read_as_named(source, names, on_bad_image)
    own = own_places(source, faces, record) if record else None
    found = description.describe(source, faces, own or splitting.positions(source, faces))
    doubted = None
    if path:
        known = tells_its_data(record)
        doubted = ask(found, path, splits, name=model, own=own is not None, known=known)
    elif folds:
        doubted = cross_validate(found, folds)
    return Described(found, doubted, write(found, doubted, folder, source))


def read_as_named(source: str, names: Sequence[str] | None, on_bad_image: OnBadImage) -> Faces:
    """Reads a source, its classes as a model names and orders them if they are the same ones."""
    faces = datasets.read(source, on_bad_image=on_bad_image)
    if names is None or names == faces.classes:
        return faces
    places = set(map(classes_lib.matcher(names), faces.classes))
    # Upper case and accents may be written otherwise, as by a training.
    if len(faces.classes) != len(names) or places != set(range(len(names))):
        return faces
    return datasets.read(source, classes=names, on_bad_image=on_bad_image)


def check_folder(folder: Path, *, listing: bool, overwrite: bool) -> None:
    """Checks that a description can be written to a folder.

    Raises:
      UserError: it is a file or cannot be written, or has a list that would be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out={folder}: is a file; name a folder")
    if not os.access(run_dir.nearest_existing(folder), os.W_OK | os.X_OK):
        raise UserError(f"--out={folder}: cannot be written; name another folder")
    if listing and not overwrite and (folder / DOUBTFUL).exists():
        raise UserError(
            f"{folder / DOUBTFUL}: is there already, and may have been edited; pass --overwrite to "
            "replace it, or another --out"
        )


def model_path(model: str) -> Path:
    """The file or folder of a model, by its path or ``"pretrained"``.

    Raises:
      UserError: it is not there.
    """
    path = pretrained.pretrained_path() if model == pretrained.NAME else Path(model)
    if not path.exists():
        raise UserError(f"--model={model}: no such file or folder; check the path")
    return path


def training_record(path: Path) -> Mapping[str, Any] | None:
    """What is known of how a model was trained: its run's settings and fingerprint, or None.

    They are in the ``config.json`` of a run and in the manifest of an export.

    Raises:
      UserError: one of these files is damaged.
    """
    if (path / run_dir.CONFIG).is_file():
        return run_dir.read_config(path)
    real = path.resolve()
    above = real.parents[: integrity.LEVELS]
    for folder in [real, *above] if real.is_dir() else above:
        manifest = integrity.read_export(folder)
        if manifest:
            record = manifest.get("run")
            known = isinstance(record, dict) and isinstance(record.get("fingerprint"), str)
            return record if known else None
    return None


def tells_its_data(record: Mapping[str, Any] | None) -> bool:
    """Whether a fingerprint other than a run's means other images.

    Without the list that the run left out, or the labels of FER+ that it took in place of the
    data's own, the same images have another one, too.
    """
    return bool(record) and not (record.get("exclude") or record.get("ferplus"))


def own_places(source: str, faces: Faces, record: Mapping[str, Any]) -> Positions | None:
    """How a run has split these faces; None where they are not the run's, as far as one can see."""
    options = {name: record[name] for name in run_data.SPLITTING if record.get(name) is not None}
    try:
        # A list of left out images is not part of an export, and may be gone.
        splits, _ = datasets.split(source, faces, **options)
        if fingerprint(splits) != record["fingerprint"]:
            return None
        options.pop("exclude", None)
        return splitting.positions(source, faces, **options)
    except UserError:
        return None


def ask(
    found: Description,
    path: Path,
    splits: Sequence[str] | None,
    *,
    name: str,
    own: bool,
    known: bool,
) -> Doubted:
    """Asks a model about images it was not trained on, and finds the labels that it doubts.

    Args:
      found: the data set.
      path: of the model.
      splits: which images; None is all but the training images.
      name: of the model, for the notes.
      own: whether the data are known to be those that it was trained on.
      known: whether it is known what it was trained on.

    Raises:
      UserError: there is no such split, or the model cannot be run.
    """
    names = model_loader.class_names(path, expected=found.classes)
    if set(names) != set(found.classes):
        problem = classes_lib.unlike(names, found.classes)
        raise UserError(f"--model={name}: the data have {problem}; name a model of these classes")
    order = [names.index(label) for label in found.classes]
    asked, left_out = held_out(found, splits)
    images = found.faces.images[asked]
    probabilities = np.zeros((len(found.split_of), len(found.classes)), np.float32)
    with model_loader.opened(path, processes=cores.usable()) as predict:
        answers = predict(images)
    probabilities[asked] = answers[:, order]
    notes = _notes(found, asked, left_out, name=name, own=own, known=known)
    return doubted(found, probabilities, asked, notes)


def cross_validate(found: Description, folds: int, **options: Any) -> Doubted:
    """Finds doubtful labels of training images, by small networks that have not seen them.

    Args:
      found: the data set.
      folds: how many networks.
      **options: of ``out_of_fold.probabilities``.

    Raises:
      UserError: a class has too few images for so many folds.
    """
    from fer_pipeline.stages import out_of_fold

    train = found.places.train
    labels, photographs = found.faces.labels[train], found.photographs[train]
    fold_of = out_of_fold.folds_of(photographs, labels, folds, seed=0)
    answers = out_of_fold.probabilities(found.faces, train, fold_of, **options)
    probabilities = np.zeros((len(found.split_of), answers.shape[1]), np.float32)
    probabilities[train] = answers
    notes = [
        f"Asked were {folds} small networks, about {len(train):,} training images. Each was "
        f"trained on the other folds of {folds}, so every image was held out, and so was every "
        "image of the same photograph. Their doubts are coarser than those of a large model."
    ]
    return doubted(found, probabilities, train, notes)


def held_out(found: Description, splits: Sequence[str] | None) -> tuple[np.ndarray, int]:
    """Positions of the images to ask a model about, and how many are left out for being known.

    Unless training images are asked for, images of the same photograph as one are left out.

    Raises:
      UserError: there is no such split.
    """
    wanted = list(splits) if splits is not None else list(found.splits[1:])
    if unknown := [split for split in wanted if split not in found.splits]:
        raise UserError(
            f"--splits={unknown[0]}: the data have {', '.join(found.splits)}; name one of them"
        )
    chosen = np.isin(found.split_of, [found.splits.index(split) for split in wanted])
    seen = np.zeros_like(chosen)
    if found.splits[0] not in wanted:
        photographs = found.photographs
        seen = chosen & np.isin(photographs, photographs[found.split_of == 0])
    return np.flatnonzero(chosen & ~seen), int(seen.sum())


def _notes(
    found: Description, asked: np.ndarray, left_out: int, *, name: str, own: bool, known: bool
) -> list[str]:
    """Which images were asked about, and what is known of whether they were held out."""
    parts = [found.splits[i] for i in np.unique(found.split_of[asked])]
    notes = [f"Asked was {name}, about {len(asked):,} images of {' and '.join(parts) or 'none'}."]
    train = found.splits[0] in parts
    if own and train:
        notes.append(
            "The model was trained on the training images and knows many of their labels by heart: "
            "it doubts too few of them."
        )
    elif own:
        notes.append(
            "The data are those of the model's training, by their fingerprint. These images were "
            "held out: no weight was fitted to them. Those that serve as validation may have "
            "chosen the learning rate, the epoch and the temperature."
        )
    elif known:
        notes.append(
            "The data are others than those of the model's training, by their fingerprint. That "
            "none of these images was among those cannot be told."
        )
    else:
        notes.append(
            "Nothing tells what this model was trained on. If these images were among it, they "
            "were not held out, and it doubts too few of their labels."
        )
    if left_out:
        notes.append(
            f"{left_out:,} more are of the same photograph as a training image and were left out."
        )
    return notes


def doubted(
    found: Description, probabilities: np.ndarray, asked: np.ndarray, notes: Sequence[str]
) -> Doubted:
    """Finds the labels that held-out probabilities speak against.

    Args:
      found: the data set.
      probabilities: float32 ``[N, C]`` of all faces; only the rows ``asked`` are used.
      asked: int64 ``[M]``, positions of the images that were held out.
      notes: sentences that say so.

    Raises:
      UserError: none was.
    """
    if not len(asked):
        raise UserError(
            "no image is held out: all are training images, or of the same photograph as one; name "
            "others with --splits"
        )
    labels, answers = found.faces.labels[asked], probabilities[asked]
    doubts = label_doubts.find(answers, labels)
    right = answers.argmax(axis=1) == labels
    of_split = found.split_of[asked]
    accuracy = {
        name: float(right[of_split == i].mean())
        for i, name in enumerate(found.splits)
        if (of_split == i).any()
    }
    shown = ", ".join(f"{share:.1%} of {name}" for name, share in accuracy.items())
    return Doubted(
        doubts=doubts._replace(places=asked[doubts.places]),
        probabilities=probabilities,
        asked=asked,
        accuracy=accuracy,
        notes=[*notes, f"It names the label of {shown}."],
    )


def write(found: Description, doubts: Doubted | None, folder: Path, source: str) -> list[Path]:
    """Writes page, figure and list, each whole or not at all; returns their paths."""

    def names_of(places: np.ndarray) -> list[str]:
        return datasets.names(source, found.faces, places)

    files = [folder / PAGE, folder / FIGURE]
    atomic_files.write_text(files[0], description_page.build(found, names_of, doubts))
    plots.save(description_figure.draw(found), files[1])
    if doubts:
        files.append(folder / DOUBTFUL)
        atomic_files.write_text(files[2], as_csv(found, doubts, names_of(doubts.doubts.places)))
    return files


def as_csv(found: Description, doubts: Doubted, names: Sequence[str]) -> str:
    """Doubtful labels as CSV, the greatest doubts first; ``datasets.exclusion`` reads it.

    No cell is a formula to a spreadsheet, whatever folders and files are called.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        "name,split,sha256,label,suggested,label_probability,suggested_probability".split(",")
    )
    places = doubts.doubts.places
    hashes = splitting.content_hashes(found.faces.images[places])
    for place, name, digest, said in zip(
        places, names, hashes, doubts.doubts.suggested, strict=True
    ):
        label, row = found.faces.labels[place], doubts.probabilities[place]
        split = found.splits[found.split_of[place]]
        shares = f"{row[label]:.4f}", f"{row[said]:.4f}"
        classes = (exclusion.as_cell(found.classes[one]) for one in (label, said))
        writer.writerow([exclusion.as_path_cell(name), split, digest, *classes, *shares])
    return text.getvalue()


def table(described: Described) -> str:
    """What a description says, for the terminal."""
    found = described.data
    head = ("", *found.splits)
    rows = [head]
    for label, name in enumerate(found.classes):
        rows.append((name, *(f"{n:,}" for n in found.counts[:, label])))
    rows.append(("all", *(f"{n:,}" for n in found.counts.sum(axis=1))))
    for what, repeats in (("equal", found.copies), ("same photograph", found.similar)):
        rows.append((f"{what}, in the split", *(f"{n:,}" for n in repeats.within)))
        rows.append((f"{what}, in train", "-", *(f"{n:,}" for n in repeats.in_train[1:])))
    copies = found.copies
    lines = [format_table(rows)]
    if found.places.note:
        lines.append(found.places.note)
    if found.faces.unread:
        lines.append(layout.describe_unread(found.faces.unread))
    lines += [f"{count:,} files: {name}" for name, count in found.formats[:3]]
    if len(found.formats) > 3:
        lines.append(f"and {len(found.formats) - 3:,} other formats or sizes")
    lines.append(
        f"{copies.groups:,} groups of equal images, {copies.conflicting:,} with different labels"
    )
    lines.append(f"{len(found.blank):,} images show nothing, {len(found.constant):,} are constant")
    if doubts := described.doubted:
        lines += [
            *doubts.notes,
            f"{len(doubts.doubts.places):,} of {len(doubts.asked):,} labels are doubtful",
        ]
    return "\n".join(lines)
