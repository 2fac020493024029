"""A run's record, ``config.json``: its settings and the facts about it.

It tells what has to be the same when a run is continued.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fer_pipeline import augmentation, recipes
from fer_pipeline import classes as classes_lib
from fer_pipeline import config as config_lib
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.config import Config

#: Facts about a run that stand in ``config.json`` beside its settings.
_FACTS = (
    "fingerprint",
    "devices",
    "versions",
    "teachers",
    "initial_weights",
    "exclude_sha256",
    "ferplus_sha256",
)

#: Settings that say where and whether a run is written, and so are no part of it.
_NOT_RECORDED = ("run_dir", "overwrite")


def to_record(
    config: Config,
    *,
    fingerprint: str,
    devices: int,
    versions: Mapping[str, str],
    teachers: Sequence[str] = (),
    initial_weights: str | None = None,
    exclude_sha256: str | None = None,
    ferplus_sha256: str | None = None,
) -> dict[str, Any]:
    """The content of ``config.json``: the settings of a run and the facts about it.

    Args:
      config: the settings, those resolved that the recipe, the device or the data decides.
      fingerprint: of the data, ``datasets.splits.fingerprint``.
      devices: how many train.
      versions: of the software.
      teachers: digests of the teachers' weights.
      initial_weights: digest of the weights that it starts from; None where they are random.
      exclude_sha256: of the list of images that are left out; None without one.
      ferplus_sha256: of the file of FER+ that the labels come from.
    """
    record = dataclasses.asdict(config)
    for name in _NOT_RECORDED:
        del record[name]
    return record | {
        "jit_compile": config.jit_compile == "true",
        "classes": list(classes_lib.parse(config.classes) or CLASS_NAMES),
        "fingerprint": fingerprint,
        "devices": devices,
        "versions": dict(versions),
        "teachers": list(teachers),
        "initial_weights": initial_weights,
        "exclude_sha256": exclude_sha256,
        "ferplus_sha256": ferplus_sha256,
    }


def record_problem(record: Mapping[str, Any]) -> str | None:
    """What is wrong with the settings in a ``config.json``, and the way out; None if nothing is.

    Settings that older versions did not have may be missing.
    """
    for name, value in record.items():
        if name in _FACTS:
            continue
        if name not in config_lib.settings():
            return f"its setting {name[:50]!r} is not known to this version; remove it"
        if name == "classes" and not isinstance(value, list):
            return f"its classes are {value!r:.50} and must be a list of names; restore it"
        # XLA is chosen by three words and recorded by two.
        text = str(value).lower() if name == "jit_compile" and isinstance(value, bool) else value
        if problem := config_lib.problem_of(name, text):
            return f"its {name} is {value!r:.50} and {problem}; restore it"
    return None


def classes_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes of a run by its record; older versions knew FER-2013's alone."""
    return tuple(record.get("classes", CLASS_NAMES))


def resume_key(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's record has to be the same when the run is continued."""
    names = [*_fixed("always"), "exclude_sha256", "fingerprint", "teachers", "initial_weights"]
    if record["deterministic"]:
        names += [*_fixed("deterministic"), "devices"]
    if depends_on_epochs(record):
        names += ["epochs"]
    return {name: record[name] for name in names}


def known_resume_key(config: Config) -> dict[str, Any]:
    """What the settings alone tell of ``resume_key``, before the device and the data are known.

    Args:
      config: the settings, those resolved that the recipe decides.
    """
    chosen = dataclasses.asdict(config)
    chosen["classes"] = list(classes_lib.parse(config.classes) or ())
    names = [name for name in _fixed("always") if not _is_left_open(config, name)]
    names += ["epochs"] if depends_on_epochs(chosen) else []
    return {name: chosen[name] for name in names}


def _is_left_open(config: Config, name: str) -> bool:
    """Whether the user left a setting to the device or to the data."""
    setting = config_lib.settings()[name]
    decided_later = setting.from_device or setting.from_data
    return decided_later and getattr(config, name) == getattr(Config, name)


def depends_on_epochs(settings: Mapping[str, Any]) -> bool:
    """Whether what a step does depends on how many epochs there will be."""
    return settings["schedule"] == "linear" or augmentation.parse(settings["augment"]).moves


def _fixed(when: config_lib.Fixed) -> list[str]:
    return [name for name, setting in config_lib.settings().items() if setting.fixed == when]


def with_defaults(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run's record; a setting that an older version did not record had the default of today.

    That is the notebook's recipe, without teachers, from random weights, and FER-2013's classes.
    What the device decides has no default.
    """
    facts = {"teachers": [], "initial_weights": None, "exclude_sha256": None}
    facts["classes"] = list(CLASS_NAMES)
    return known_resume_key(recipes.resolve(Config())) | facts | dict(record)
