"""A run's record, ``config.json``: its settings and the facts about it.

It tells what has to be the same when a run is continued.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fer_pipeline import augmentation, recipes
from fer_pipeline import config as config_lib
from fer_pipeline.config import Config

#: Facts about a run that stand in ``config.json`` beside its settings.
_FACTS = ("fingerprint", "devices", "versions", "teachers", "ferplus_sha256")

#: Settings that say where and whether a run is written, and so are no part of it.
_NOT_RECORDED = ("run_dir", "overwrite")


def to_record(
    config: Config,
    *,
    fingerprint: str,
    devices: int,
    versions: Mapping[str, str],
    teachers: Sequence[str] = (),
    ferplus_sha256: str | None = None,
) -> dict[str, Any]:
    """The content of ``config.json``: the settings of a run and the facts about it.

    Args:
      config: the settings, those resolved that the recipe or the device decides.
      fingerprint: of the data, ``datasets.splits.fingerprint``.
      devices: how many train.
      versions: of the software.
      teachers: digests of the teachers' weights.
      ferplus_sha256: of the file of FER+ that the labels come from.
    """
    record = dataclasses.asdict(config)
    for name in _NOT_RECORDED:
        del record[name]
    return record | {
        "jit_compile": config.jit_compile == "true",
        "fingerprint": fingerprint,
        "devices": devices,
        "versions": dict(versions),
        "teachers": list(teachers),
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
        # XLA is chosen by three words and recorded by two.
        text = str(value).lower() if name == "jit_compile" and isinstance(value, bool) else value
        if problem := config_lib.problem_of(name, text):
            return f"its {name} is {value!r:.50} and {problem}; restore it"
    return None


def resume_key(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's record has to be the same when the run is continued."""
    names = [*_fixed("always"), "fingerprint", "teachers"]
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
    names = [
        name
        for name in _fixed("always")
        if not (config_lib.settings()[name].from_device and chosen[name] == getattr(Config, name))
    ]
    names += ["epochs"] if depends_on_epochs(chosen) else []
    return {name: chosen[name] for name in names}


def depends_on_epochs(settings: Mapping[str, Any]) -> bool:
    """Whether what a step does depends on how many epochs there will be."""
    return settings["schedule"] == "linear" or augmentation.parse(settings["augment"]).moves


def _fixed(when: config_lib.Fixed) -> list[str]:
    return [name for name, setting in config_lib.settings().items() if setting.fixed == when]


def with_defaults(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run's record; a setting that an older version did not record had the default of today.

    That is the notebook's recipe, without teachers. What the device decides has no default.
    """
    return known_resume_key(recipes.resolve(Config())) | {"teachers": []} | dict(record)
