"""Every setting of a training run, once.

The flags of ``fer_pipeline.train``, its ``--help``, ``config.json``, the check that a run is
continued with the settings it was started with, and the arguments of the training loop all come
from the fields of ``Config``. A new setting is one field here, and the code that uses it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

from fer_pipeline.errors import UserError

#: Facts about a run that stand in ``config.json`` beside its settings.
_FACTS = ("fingerprint", "devices", "versions")

#: Settings that say where and whether a run is written, and so are no part of it.
_NOT_RECORDED = ("run_dir", "overwrite")

#: When a run can be continued only with the same value: always, or only with ``--deterministic``,
#: under which every bit has to be reproduced. None: the value may change.
Fixed = Literal["always", "deterministic"] | None


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of a setting beside its name, type and default.

    Attributes:
      help: for ``--help``.
      choices: the only values, if they can be listed.
      minimum: the smallest value.
      above: a number that the value has to exceed.
      maximum: the largest value.
      below: a number that the value must not reach.
      fixed: see ``Fixed``.
      from_device: whether the device decides where the user did not.
    """

    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    fixed: Fixed = None
    from_device: bool = False


def _setting(default: Any, help_text: str, **facts: Any) -> Any:
    return dataclasses.field(default=default, metadata={"": Setting(help_text, **facts)})


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a training run. The defaults are the notebook's.

    Raises:
      UserError: a value has the wrong type or is out of range; names the setting.
    """

    data: str = _setting(
        "synthetic",
        "Where the faces come from: 'synthetic'; a folder or .zip of train/<class>/ and "
        "test/<class>/ images; or Kaggle's fer2013.csv or icml_face_data.csv.",
    )
    run_dir: str | None = _setting(
        None, "Where everything is written; by default runs/<data>-<recipe>-s<seed>."
    )
    overwrite: bool = _setting(False, "Delete the run in --run_dir and start anew.")
    epochs: int = _setting(15, "Passes over the training images.", minimum=1)
    batch_size: int = _setting(64, "Images of a training step.", minimum=1, fixed="always")
    learning_rate: float = _setting(
        5e-4, "Learning rate of Adam at the start.", above=0.0, fixed="always"
    )
    seed: int = _setting(
        0,
        "Seed of weights, dropout, shuffling and flips.",
        minimum=0,
        maximum=2**32 - 1,
        fixed="always",
    )
    precision: str = _setting(
        "auto",
        "Keras dtype policy of the training.",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16", "float64"),
        fixed="always",
        from_device=True,
    )
    cache: str = _setting(
        "memory",
        "Where decoded faces are kept: in memory; on disk, so that the next start decodes nothing; "
        "or nowhere, for sources larger than memory.",
        choices=("memory", "disk", "none"),
    )
    cache_dir: str | None = _setting(
        None, "Folder of --cache=disk; by default fer_pipeline in the user's cache."
    )
    validation_fraction: float | None = _setting(
        None,
        "Use this share of the training images for validation, in place of the source's own "
        "validation images.",
        above=0.0,
        below=1.0,
    )
    on_bad_image: str = _setting(
        "fail", "What to do about an image that cannot be read.", choices=("fail", "skip")
    )
    export_checkpoint: str = _setting(
        "last",
        "Evaluate and export the last epoch's weights, or those of the best validation accuracy.",
        choices=("last", "best"),
    )
    strategy: str = _setting(
        "auto",
        "Which devices train: one; all GPUs of this host; or the hosts of TF_CONFIG. 'auto' takes "
        "the hosts if TF_CONFIG is set, else all GPUs if a batch has 256 images for each, else "
        "one.",
        choices=("auto", "one_device", "mirrored", "multi_worker"),
    )
    join_minutes: float = _setting(
        10.0, "Minutes to wait for the other hosts of TF_CONFIG.", above=0.0
    )
    steps_per_execution: int | None = _setting(
        None,
        "Steps without Python in between; by default as many as take about a second.",
        minimum=1,
    )
    jit_compile: str = _setting(
        "auto",
        "Compile by XLA; 'auto' does on one GPU of compute capability below 12.0 without "
        "--deterministic.",
        choices=("auto", "true", "false"),
        fixed="deterministic",
        from_device=True,
    )
    checkpoint_minutes: float = _setting(
        10.0,
        "Minutes between two checkpoints inside an epoch; there is one after every epoch, too.",
        minimum=0.0,
    )
    deterministic: bool = _setting(
        False,
        "Have a repetition give the same bits, on as many threads and devices.",
        fixed="always",
    )
    threads: int | None = _setting(
        None,
        "Threads of an operation; by default one a core.",
        minimum=1,
        maximum=4096,
        fixed="deterministic",
        from_device=True,
    )
    tensorboard: bool = _setting(
        False, "Write <run_dir>/tensorboard; needs the extra 'tensorboard'."
    )

    def __post_init__(self) -> None:
        for name in settings():
            value = _plain(getattr(self, name))
            if problem := problem_of(name, value):
                raise UserError(f"--{name}={value}: {problem}")
            object.__setattr__(self, name, value)


@functools.cache
def settings() -> dict[str, Setting]:
    """What is known of each setting, by name."""
    return {field.name: field.metadata[""] for field in dataclasses.fields(Config)}


@functools.cache
def _types() -> dict[str, tuple[type, bool]]:
    """The type of each setting, and whether it may be None."""
    found = {}
    for name, hint in typing.get_type_hints(Config).items():
        options = typing.get_args(hint) or (hint,)
        found[name] = (options[0], type(None) in options)
    return found


def _plain(value: Any) -> Any:
    """A NumPy scalar as a Python number and a path as text, as JSON can hold them."""
    # NumPy is not imported for --help; without it there are no NumPy scalars.
    numpy = sys.modules.get("numpy")
    if numpy and isinstance(value, numpy.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def problem_of(name: str, value: Any) -> str | None:
    """What is wrong with a value of a setting, such as ``"must be a number above 0"``; or None."""
    value = _plain(value)
    kind, optional = _types()[name]
    if value is None and optional:
        return None
    # In Python a bool is an int, and a whole number is as good as a float.
    accepted = (int, float) if kind is float else kind
    right = isinstance(value, accepted) and (kind is bool) == isinstance(value, bool)
    if right and _is_in_range(settings()[name], value):
        return None
    return f"must be {_expected(name)}"


def _is_in_range(setting: Setting, value: Any) -> bool:
    if setting.choices:
        return value in setting.choices
    if isinstance(value, (str, bool)):
        return True
    return (
        (isinstance(value, int) or math.isfinite(value))
        and (setting.minimum is None or value >= setting.minimum)
        and (setting.above is None or value > setting.above)
        and (setting.maximum is None or value <= setting.maximum)
        and (setting.below is None or value < setting.below)
    )


def _expected(name: str) -> str:
    """Describes the values that a setting takes."""
    setting, (kind, _) = settings()[name], _types()[name]
    if setting.choices:
        return f"one of {', '.join(setting.choices)}"
    noun = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[kind]
    bounds = {
        "from {:g}": setting.minimum,
        "above {:g}": setting.above,
        "up to {:,}": setting.maximum,
        "below {:g}": setting.below,
    }
    said = [words.format(bound) for words, bound in bounds.items() if bound is not None]
    return " ".join([noun, " and ".join(said)]).strip()


def define_flags() -> Callable[[], Config]:
    """Defines an absl flag for every setting, as flags of the calling module.

    Returns:
      A function that makes a ``Config`` of the flags, once they are parsed.
    """
    from absl import flags

    flags.disclaim_key_flags()
    define = {
        bool: flags.DEFINE_bool,
        str: flags.DEFINE_string,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
    }
    holders = {}
    for name, setting in settings().items():
        default, kind = getattr(Config, name), _types()[name][0]
        if setting.choices:
            holders[name] = flags.DEFINE_enum(name, default, setting.choices, setting.help)
        elif kind in (int, float):
            holders[name] = define[kind](
                name,
                default,
                setting.help,
                lower_bound=setting.above if setting.minimum is None else setting.minimum,
                upper_bound=setting.below if setting.maximum is None else setting.maximum,
            )
        else:
            holders[name] = define[kind](name, default, setting.help)
    return lambda: Config(**{name: holder.value for name, holder in holders.items()})


def to_record(config: Config, *, fingerprint: str, devices: int, versions: Mapping) -> dict:
    """The content of ``config.json``: the settings of a run and the facts about it.

    Args:
      config: the settings, what the device decides among them decided.
      fingerprint: of the data, ``datasets.splits.fingerprint``.
      devices: how many train.
      versions: of the software.
    """
    record = dataclasses.asdict(config)
    for name in _NOT_RECORDED:
        del record[name]
    facts = {"fingerprint": fingerprint, "devices": devices, "versions": dict(versions)}
    return record | {"jit_compile": config.jit_compile == "true"} | facts


def record_problem(record: Mapping[str, Any]) -> str | None:
    """What is wrong with the settings in a ``config.json``, and the way out; None if nothing is.

    Settings that older versions did not have may be missing.
    """
    for name, value in record.items():
        if name in _FACTS:
            continue
        if name not in settings():
            return f"its setting {name[:50]!r} is not known to this version; remove it"
        # XLA is chosen by three words and recorded by two.
        text = str(value).lower() if name == "jit_compile" and isinstance(value, bool) else value
        if problem := problem_of(name, text):
            return f"its {name} is {value!r:.50} and {problem}; restore it"
    return None


def resume_key(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's record has to be the same when the run is continued."""
    always = [name for name, setting in settings().items() if setting.fixed == "always"]
    names = [*always, "fingerprint"]
    if record["deterministic"]:
        names += [name for name, setting in settings().items() if setting.fixed == "deterministic"]
        names += ["devices"]
    return {name: record[name] for name in names}


def known_resume_key(config: Config) -> dict[str, Any]:
    """What the settings alone tell of ``resume_key``, before the device and the data are known."""
    return {
        name: getattr(config, name)
        for name, setting in settings().items()
        if setting.fixed == "always"
        and not (setting.from_device and getattr(config, name) == getattr(Config, name))
    }


def with_defaults(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run's record; a setting that an older version did not record had the default of today.

    What the device decides has no default.
    """
    return known_resume_key(Config()) | dict(record)
