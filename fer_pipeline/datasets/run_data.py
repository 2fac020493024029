"""Loads the faces of an existing run, with the splits of that run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from fer_pipeline import datasets
from fer_pipeline.datasets import exclusion
from fer_pipeline.datasets.splits import TRAIN, Faces, Splits, fingerprint
from fer_pipeline.errors import UserError
from fer_pipeline.run_record import classes_of

#: Settings of a run that its training and validation images depend on.
SPLITTING = ("seed", "validation_fraction", "exclude")

#: Settings of how images are read.
_READING = ("cache", "cache_dir")


class RunData(NamedTuple):
    """The faces, and whether they are those of the run: ``own``, by the fingerprint."""

    splits: Splits
    fingerprint: str
    own: bool


def load(
    config: Mapping[str, Any],
    data: str | None = None,
    *,
    on_bad_image: str | None = None,
    keep: bool = True,
    ferplus: str | None = None,
) -> RunData:
    """Loads the faces of a run, or others.

    The run's own images are split as in the run, whatever the name of their source: validation
    images that were split off the training images must not count as training images. Other images
    are split as their source is. In any case the classes have to be the run's.

    Args:
      config: of the run; missing settings have their defaults.
      data: a source, as for ``datasets.load``; None is the run's own.
      on_bad_image: overrides the run's.
      keep: whether a cache on disk may be written; an existing one is used in any case.
      ferplus: where FER+'s labels are; None is where the run had them. If the run had some, other
        images that they fit have them, too.

    Raises:
      UserError: as ``datasets.load``.
    """
    if data is None and config.get("exclude"):
        _check_list(config["exclude"], config.get("exclude_sha256"))
    bad = on_bad_image or config.get("on_bad_image") or "fail"
    labels = {"ferplus": ferplus or config.get("ferplus")}
    if labels["ferplus"] is None:
        labels = {}
    elif "ferplus_labels" in config:
        labels["ferplus_labels"] = config["ferplus_labels"]
    if data is not None and labels and ferplus is None:
        # That they are the run's own shows with the run's labels alone.
        with contextlib.suppress(UserError):
            found = _load(config, data, bad, labels, keep=keep)
            if found.own:
                return found
        labels = {}
    return _load(config, data, bad, labels, keep=keep)


def read_all(
    config: Mapping[str, Any],
    data: str,
    *,
    on_bad_image: str | None = None,
    ferplus: str | None = None,
) -> Faces:
    """Reads all images of another source than a run's, whatever split they are in.

    Args:
      config: of the run, whose classes they have to be of.
      data: the source.
      on_bad_image: overrides the run's.
      ferplus: where FER+'s labels are, if they are wanted.

    Raises:
      UserError: as ``load``; or they are the run's own, of which it was trained on most.
    """
    own = False
    with contextlib.suppress(UserError):
        own = load(config, data, on_bad_image=on_bad_image, keep=False, ferplus=ferplus).own
    if own:
        raise UserError(f"--split=all: {data} is what the run was trained on; name a part of it")
    options = {"classes": classes_of(config), "ferplus": ferplus}
    if ferplus and "ferplus_labels" in config:
        options["ferplus_labels"] = config["ferplus_labels"]
    bad = on_bad_image or config.get("on_bad_image") or "fail"
    return datasets.read(data, on_bad_image=bad, **options)


def _load(
    config: Mapping[str, Any],
    data: str | None,
    on_bad_image: str,
    labels: dict[str, Any],
    *,
    keep: bool,
) -> RunData:
    """As ``load``; ``labels`` are the options of ``datasets.load`` about FER+."""
    splitting = {name: config[name] for name in SPLITTING if config.get(name) is not None}
    source = data or config["data"]
    if source == datasets.SYNTHETIC:
        splitting.pop("validation_fraction", None)
    options = labels | {"classes": classes_of(config), "on_bad_image": on_bad_image}
    if data is not None and splitting.keys() - {"seed"}:
        faces = datasets.read(data, **options)
        return _split_if_own(data, faces, splitting, config.get("fingerprint"))
    reading = {name: config[name] for name in _READING if data is None and name in config}
    options |= reading | splitting | {"write_cache": keep}
    splits = datasets.load(source, **options).splits
    found = fingerprint(splits)
    return RunData(splits, found, found == config.get("fingerprint"))


def _check_list(path: str, expected: str | None) -> None:
    """Raises UserError where the list of left out images is not the one of the run."""
    if exclusion.digest(path) != expected:
        raise UserError(
            f"--exclude={path}: has changed since the run was started with it; restore it, or "
            "name the data with --data"
        )


def _split_if_own(
    source: str, faces: Faces, splitting: dict[str, Any], expected: str | None
) -> RunData:
    """Splits the images of a source as in the run if they are the run's."""
    # The run's split of other images may leave a part empty, which is no error.
    with contextlib.suppress(UserError):
        splits, _ = datasets.split(source, faces, **splitting)
        if fingerprint(splits) == expected:
            return RunData(splits, expected, True)
    if (faces.groups == TRAIN).all():
        raise UserError(f"{source}: nothing but training images; add a test/ folder")
    splits, _ = datasets.split(source, faces)
    return RunData(splits, fingerprint(splits), False)
