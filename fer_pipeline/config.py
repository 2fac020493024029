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
from collections.abc import Callable
from typing import Any, Literal

from fer_pipeline import augmentation, freezing
from fer_pipeline import classes as classes_lib
from fer_pipeline.errors import UserError

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
      parse: what reads a text; it raises ValueError with what is wrong.
      fixed: see ``Fixed``.
      from_device: whether the device decides where the user did not.
      from_data: whether the data decide then.
    """

    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    parse: Callable[[str], Any] | None = None
    fixed: Fixed = None
    from_device: bool = False
    from_data: bool = False


def _setting(default: Any, help_text: str, **facts: Any) -> Any:
    return dataclasses.field(default=default, metadata={"": Setting(help_text, **facts)})


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a training run. The defaults are the notebook's.

    What is None and belongs to a recipe is filled in by ``recipes.resolve``.

    Raises:
      UserError: a value has the wrong type or is out of range; names the setting.
    """

    data: str = _setting(
        "synthetic",
        "Where the faces come from: 'synthetic'; a folder or .zip of train/<class>/ and "
        "test/<class>/ images, or of <class>/ images, which are cut by their content; "
        "Kaggle's fer2013.csv or icml_face_data.csv; or kaggle:OWNER/NAME, which is downloaded.",
    )
    ferplus: str | None = _setting(
        None,
        "The file fer2013new.csv of Microsoft's FERPlus, with labels of ten people for the faces "
        "of FER-2013's CSV file.",
    )
    ferplus_labels: str = _setting(
        "majority",
        "What of --ferplus is learnt: the class that most people named, or the share of people "
        "who named each.",
        choices=("majority", "distribution"),
        fixed="always",
    )
    classes: str = _setting(
        classes_lib.AUTO,
        "Names and order of the classes, 2 to 1,000 separated by commas (a name with a comma in "
        "double quotes); 'auto' takes the folders in train/ or in the data, sorted.",
        parse=classes_lib.parse,
        fixed="always",
        from_data=True,
    )
    run_dir: str | None = _setting(
        None, "Where everything is written; by default runs/<data>-<recipe>-s<seed>."
    )
    overwrite: bool = _setting(False, "Delete the run in --run_dir and start anew.")
    epochs: int = _setting(15, "Passes over the training images.", minimum=1)
    model: str | None = _setting(
        None,
        "The network: the notebook's, or a residual one at one of three widths. By default that of "
        "a run or of the pretrained model in --init_weights, else the recipe's.",
        choices=("notebook", "compact", "tiny", "wide"),
        fixed="always",
    )
    recipe: str = _setting(
        "notebook",
        "Named set of default settings; a flag of its own overrides each of them.",
        choices=("notebook", "tuned", "finetune"),
    )
    init_weights: str | None = _setting(
        None,
        "Weights to start from: 'pretrained' is the model that comes with the package; or a run "
        "directory; or an export's model_weights.h5 or .keras. The last layer starts anew where "
        "the classes are others.",
    )
    freeze: str = _setting(
        "0",
        "How many layers with weights, from the first, keep those of --init_weights, batch "
        "normalisation its moving statistics too; 'backbone' is all but the last.",
        parse=freezing.parse,
        fixed="always",
    )
    batch_size: int | None = _setting(None, "Images of a training step.", minimum=1, fixed="always")
    optimizer: str | None = _setting(
        None,
        "Optimizer; 'muon' takes the hidden kernels and leaves the rest to AdamW.",
        choices=("adam", "adamw", "muon"),
        fixed="always",
    )
    learning_rate: float | None = _setting(
        None,
        "Learning rate at the start, or the largest; Muon's is relative to the norm of a kernel.",
        above=0.0,
        fixed="always",
    )
    schedule: str | None = _setting(
        None,
        "'plateau' cuts the learning rate tenfold when the validation loss stalls for two epochs; "
        "'linear' rises, then falls to zero, step by step.",
        choices=("plateau", "linear"),
        fixed="always",
    )
    warmup: float | None = _setting(
        None,
        "Share of all steps over which 'linear' rises.",
        minimum=0.0,
        maximum=1,
        fixed="always",
    )
    weight_decay: float | None = _setting(
        None, "AdamW's weight decay; with Muon of the head alone.", minimum=0.0, fixed="always"
    )
    label_smoothing: float | None = _setting(
        None,
        "Share of a label's weight that is spread over all classes.",
        minimum=0.0,
        maximum=1,
        fixed="always",
    )
    class_weight: str = _setting(
        "none",
        "Weight of an image in the loss of its label: 'balanced' gives every class the same share, "
        "'effective' less to small classes, by their effective number of images.",
        choices=("none", "balanced", "effective"),
        fixed="always",
    )
    dropout: float | None = _setting(
        None,
        "Dropout rate before the last layer, and none elsewhere; without it the network's own.",
        minimum=0.0,
        below=1.0,
        fixed="always",
    )
    normalization_momentum: float | None = _setting(
        None,
        "Momentum of batch normalisation's moving statistics.",
        minimum=0.0,
        maximum=1,
        fixed="always",
    )
    ema: float | None = _setting(
        None,
        "Momentum of an exponential moving average of the weights, such as 0.999, which is then "
        "validated, evaluated and exported; 0 keeps none.",
        minimum=0.0,
        below=1.0,
        fixed="always",
    )
    augment: str | None = _setting(
        None,
        "How far training images are changed at most: 'none', or some of flip, shift:PIXELS, "
        "rotate:DEGREES, zoom:SHARE and cutout:PIXELS, separated by commas. All but the flip fade "
        "out over the last tenth of the training.",
        parse=augmentation.parse,
        fixed="always",
    )
    teacher: str | None = _setting(
        None,
        "Comma-separated runs whose answers the network also learns (a path with a comma in double "
        "quotes); 'pretrained' is the model that comes with the package.",
    )
    temperature: float | None = _setting(
        None, "Temperature at which the teachers are imitated.", above=0.0, fixed="always"
    )
    distill: float | None = _setting(
        None, "Share of the loss that is the teachers'.", minimum=0.0, maximum=1, fixed="always"
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
        "validation images. In a source without train/ it is of all but the test images.",
        above=0.0,
        below=1.0,
    )
    exclude: str | None = _setting(
        None,
        "A list of training and validation images to leave out, such as fer_pipeline.describe's "
        "doubtful.csv: a CSV file with a column sha256, or a text with an image's path in the "
        "source or its content hash on each line. Test images always stay.",
    )
    on_bad_image: str = _setting(
        "fail", "What to do about an image that cannot be read.", choices=("fail", "skip")
    )
    export_checkpoint: str = _setting(
        "last",
        "Evaluate and export the last epoch's weights, or those of the best validation accuracy.",
        choices=("last", "best"),
    )
    calibrate: bool | None = _setting(
        None,
        "Divide the logits by a temperature that is fitted on the validation images, so that of "
        "answers with a probability of 80 % about 80 % are right; the classes stay the same.",
    )
    mirror: bool = _setting(
        False,
        "Export files that average a face and its mirror image inside, all but Keras': more "
        "accurate, as large, twice the time.",
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
            if name == "classes" and isinstance(value, (list, tuple)):
                value = classes_lib.as_text(value)
            if name == "freeze" and type(value) is int:
                value = str(value)
            if problem := problem_of(name, value):
                raise UserError(f"--{name}={value}: {problem}")
            object.__setattr__(self, name, value)


@functools.cache
def settings() -> dict[str, Setting]:
    """What is known of each setting, by name."""
    return {field.name: field.metadata[""] for field in dataclasses.fields(Config)}


@functools.cache
def value_types() -> dict[str, tuple[type, bool]]:
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
    kind, optional = value_types()[name]
    if value is None and optional:
        return None
    # A ``config.json`` has a list.
    if name == "classes" and isinstance(value, (list, tuple)):
        return classes_lib.problem_of(value)
    # In Python a bool is an int, and a whole number is as good as a float.
    accepted = (int, float) if kind is float else kind
    right = isinstance(value, accepted) and (kind is bool) == isinstance(value, bool)
    if not right or not _is_in_range(settings()[name], value):
        return f"must be {_expected(name)}"
    try:
        if parse := settings()[name].parse:
            parse(value)
    except ValueError as error:
        return str(error)
    return None


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
    setting, (kind, _) = settings()[name], value_types()[name]
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
