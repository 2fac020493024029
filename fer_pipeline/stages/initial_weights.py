"""The weights that a run starts from: the pretrained model's, another run's, or a file's."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from fer_pipeline import classes as classes_lib
from fer_pipeline import freezing, run_dir
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.config import Config
from fer_pipeline.errors import UserError
from fer_pipeline.inference import integrity, labels, model_loader, pretrained
from fer_pipeline.models import networks
from fer_pipeline.run_record import classes_of
from fer_pipeline.stages.teachers import digest
from fer_pipeline.training import checkpoints

_KINDS = "'pretrained', a run directory, or an export's model_weights.h5 or .keras"

#: Arrays of the head: kernel and bias, the last of a network's.
_HEAD = 2


class Source(NamedTuple):
    """Weights that others have trained.

    Attributes:
      weights: in the order of ``keras.Model.get_weights()``.
      classes: what the head tells apart.
      named: whether that is known, not taken for want of any names.
    """

    weights: list[np.ndarray]
    classes: tuple[str, ...]
    named: bool = True


class Start(NamedTuple):
    """What a run starts from; all None where its weights are random.

    Attributes:
      weights: float32, for ``loop.train``; None where a checkpoint holds all that is needed.
      digest: of the weights where they come from, ``teachers.digest``.
    """

    weights: list[np.ndarray] | None = None
    digest: str | None = None


def with_network(config: Config) -> Config:
    """Takes the network of ``--init_weights`` where the user has chosen none.

    Files do not say which network they are of; there the recipe decides. A run that goes on from
    its checkpoint keeps its own, whatever has become of what it started from.

    Raises:
      UserError: a run or the pretrained manifest cannot be read.
    """
    source = config.init_weights
    if config.model is not None or source is None:
        return config
    if config.run_dir and _needs_none(Path(config.run_dir), config):
        record = run_dir.read_config(Path(config.run_dir))
        return dataclasses.replace(config, model=record.get("model", "notebook"))
    if source == pretrained.NAME:
        return dataclasses.replace(config, model=pretrained.network_name())
    if (Path(source) / run_dir.CONFIG).is_file():
        record = run_dir.read_config(Path(source))
        return dataclasses.replace(config, model=record.get("model", "notebook"))
    return config


def check(path: Path, config: Config) -> None:
    """Raises UserError for what is wrong with ``--init_weights`` or ``--freeze``.

    That is as far as it shows without TensorFlow.

    Args:
      path: the run directory.
      config: the settings, those resolved that the recipe decides.
    """
    source, frozen = config.init_weights, freezing.parse(config.freeze)
    if source is None and frozen != 0:
        raise UserError(
            f"--freeze={config.freeze}: random weights have to be trained; add --init_weights or "
            "leave it out"
        )
    most = networks.count_layers(config.model) - 1
    if (frozen or 0) > most:
        raise UserError(
            f"--freeze={config.freeze}: --model={config.model} has {most} layers with weights "
            f"before its last; pass {most} or less"
        )
    if source is None or _needs_none(path, config):
        return
    if source == pretrained.NAME:
        pretrained.weights_path()
    elif (Path(source) / run_dir.CONFIG).is_file():
        record = run_dir.read_config(Path(source))
        checkpoints.load_end(Path(source), record.get("export_checkpoint", "last"))
    elif not os.path.exists(source):
        raise UserError(f"--init_weights={source}: no such file or folder; name {_KINDS}")
    elif not os.path.isfile(source) or Path(source).suffix not in (".h5", ".keras"):
        raise UserError(f"--init_weights={source}: holds no weights; name {_KINDS}")


def place(source: str | None) -> str | None:
    """``--init_weights`` as ``config.json`` has it: the same from every folder."""
    return source if source in (None, pretrained.NAME) else os.path.abspath(source)


def _needs_none(path: Path, config: Config) -> bool:
    """Whether a run goes on from its checkpoint, whatever has become of what it started from.

    Another run may have been trained further since, or be gone.
    """
    if config.overwrite or not checkpoints.latest(path) or not (path / run_dir.CONFIG).is_file():
        return False
    record = run_dir.read_config(path)
    recorded = record.get("init_weights") if record.get("initial_weights") else None
    return recorded is not None and recorded == place(config.init_weights)


def of_run(path: Path, config: Config, classes: Sequence[str]) -> Start:
    """What a run starts from.

    Args:
      path: the run directory. A run that goes on from its checkpoint does so without the weights
        that it once started from.
      config: the settings, those resolved that the recipe decides.
      classes: of the data.

    Raises:
      UserError: the weights cannot be read, or are of another network.
    """
    source = config.init_weights
    if source is None:
        return Start()
    if _needs_none(path, config):
        return Start(None, run_dir.read_config(path)["initial_weights"])
    found = load(source)
    weights = fit(found, config.model, classes, source=source)
    kept = "the last layer included" if len(weights) == len(found.weights) else "a new last layer"
    if len(weights) == len(found.weights) and not found.named:
        kept += f" (nothing there names its classes; they are taken for {', '.join(found.classes)})"
    print(f"starting from the weights of {source}, {kept}", flush=True)
    return Start(weights, digest(found.weights))


def load(source: str) -> Source:
    """Reads the weights that ``--init_weights`` names.

    A run's are those of the checkpoint that it exported, as they were trained: without the
    temperature that they are delivered with.

    Raises:
      UserError: they cannot be read.
    """
    path = Path(source)
    if source == pretrained.NAME:
        return Source(model_loader.pretrained_network().get_weights(), CLASS_NAMES)
    if (path / run_dir.CONFIG).is_file():
        record = run_dir.read_config(path)
        which = record.get("export_checkpoint", "last")
        return Source(checkpoints.load_weights(path, which), classes_of(record))
    try:
        integrity.check(path)
        weights = _of_keras(path) if path.suffix == ".keras" else _of_hdf5(path)
        if len(weights) < _HEAD:
            raise ValueError("it holds no last layer")
        names, answers = labels.find(path), weights[-1].size
        if names and len(names) != answers:
            raise UserError(
                f"--init_weights={source}: has {answers} answers, and its labels are "
                f"{classes_lib.listed(names)}; correct the labels"
            )
    except UserError:
        raise
    # A damaged file makes Keras, h5py, zipfile and json raise nearly anything.
    except Exception as error:
        _refuse(source, f"not readable ({_first_line(error)}); name {_KINDS}")
    return Source(weights, names or labels.unnamed(answers), named=names is not None)


def _of_keras(path: Path) -> list[np.ndarray]:
    from fer_pipeline.inference import keras_loader

    return keras_loader.load(path).get_weights()


def _of_hdf5(path: Path) -> list[np.ndarray]:
    """The arrays of the legacy layout, layer by layer; see ``export.formats.keras_files``."""
    import h5py

    from fer_pipeline.inference import strangers

    with h5py.File(path) as file:
        strangers.check_hdf5(file, path)
        if "layer_names" not in file.attrs:
            raise ValueError("it lists no layers, as an export's does")
        groups = [file[name] for name in file.attrs["layer_names"]]
        return [np.asarray(group[name]) for group in groups for name in group.attrs["weight_names"]]


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def fit(found: Source, network: str, classes: Sequence[str], *, source: str) -> list[np.ndarray]:
    """The weights of a network that tells these classes apart, as far as there are any.

    Where the classes are the same, however they are spelled, the head's are the last two, in the
    order of ``classes``. Else these are left out.

    Args:
      found: what is there.
      network: one of ``networks.NAMES``.
      classes: what the network will tell apart.
      source: the name of what is there, for messages.

    Raises:
      UserError: the weights are of another network or not finite.
    """
    model = networks.build_model(network, len(classes))
    wanted = [(weight.path, tuple(weight.shape)) for weight in model.weights]
    wanted[-_HEAD:] = [(name, (*shape[:-1], len(found.classes))) for name, shape in wanted[-_HEAD:]]
    weights = [np.asarray(array, np.float32) for array in found.weights]
    shapes = [array.shape for array in weights] + [None] * len(wanted)
    for (name, shape), there in zip(wanted, shapes, strict=False):
        if there != shape:
            _refuse(
                source,
                f"is of another network than --model={network}, whose {name} has shape "
                f"{shape}, where it has {there or 'nothing'}; pass the --model that it is of",
            )
    if len(weights) > len(wanted):
        _refuse(source, f"has more layers than --model={network}; pass the --model that it is of")
    if not all(np.isfinite(array).all() for array in weights):
        _refuse(source, "holds values that are not finite; name other weights")
    order = [*map(classes_lib.matcher(found.classes), classes)]
    if None in order or not len(order) == len(set(order)) == len(found.classes):
        return weights[:-_HEAD]
    return [*weights[:-_HEAD], *(array[..., order] for array in weights[-_HEAD:])]


def _refuse(source: str, problem: str) -> NoReturn:
    raise UserError(f"--init_weights={source}: {problem}")
