"""Keras' files: a pair that Keras 2 and Keras 3 both load, and Keras 3's own archive.

The pair is ``model.json`` and ``model_weights.h5``. Keras 3 writes a JSON that Keras 2 cannot read
(``batch_shape``, dtype policies as objects, keys its layers refuse) and weights in a layout that
is new as well. Keras 3 still reads the old forms, so the old forms are written.

The archive is ``model.keras``: one file, for Keras 3 alone, whose members carry CRC-32 sums.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_pipeline.inference.export_files import LABELS, MODEL_JSON, MODEL_WEIGHTS

if TYPE_CHECKING:
    import keras

#: The constructor arguments that every Keras since 2.3 (TensorFlow 2.2) knows. What is left out
#: (initializers, ``groups``, ...) has no part in inference or is at its default here.
_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "InputLayer": ("sparse", "ragged"),
    "Conv2D": tuple(
        "filters kernel_size strides padding data_format dilation_rate activation use_bias".split()
    ),
    "BatchNormalization": ("axis", "momentum", "epsilon", "center", "scale"),
    "Activation": ("activation",),
    "MaxPooling2D": ("pool_size", "padding", "strides", "data_format"),
    "AveragePooling2D": ("pool_size", "padding", "strides", "data_format"),
    "GlobalAveragePooling2D": ("data_format", "keepdims"),
    "Add": (),
    "Dropout": ("rate",),
    "Flatten": ("data_format",),
    "Dense": ("units", "activation", "use_bias"),
}

#: What stands for the time of writing in an archive: the earliest that a .zip can name.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_NO_TIME_IN_WORDS = "1980-01-01@00:00:00"
_ARCHIVE_METADATA = "metadata.json"


def architecture_json(model: keras.Model) -> str:
    """The architecture as indented JSON in Keras 2's form; the same model gives the same text.

    Raises:
      ValueError: the model holds a layer whose Keras 2 form is not known here.
    """
    import keras

    config = model.get_config()
    in_a_row = isinstance(model, keras.Sequential)
    layers = [_layer(layer) for layer in config["layers"]]
    graph = {} if in_a_row else _graph(config, layers)
    value = {
        "module": "keras",
        "class_name": "Sequential" if in_a_row else "Model",
        "config": {"name": config["name"], "layers": layers, **graph},
        "registered_name": None,
        "keras_version": keras.__version__,
        "backend": "tensorflow",
    }
    return json.dumps(value, indent=1) + "\n"


def _graph(config: dict[str, Any], layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Adds to every layer which others it reads, as Keras 2 says it, and names the two ends."""
    for layer, given in zip(layers, config["layers"], strict=True):
        layer["name"] = given["name"]
        layer["inbound_nodes"] = [
            [[*tensor["config"]["keras_history"], {}] for tensor in _tensors(node["args"])]
            for node in given["inbound_nodes"]
        ]
    # A single one Keras 3 writes without the list around it.
    return {
        name: config[name] if isinstance(config[name][0], list) else [config[name]]
        for name in ("input_layers", "output_layers")
    }


def _tensors(arguments: list[Any]) -> list[dict[str, Any]]:
    [first] = arguments
    return first if isinstance(first, list) else [first]


def _layer(layer: dict[str, Any]) -> dict[str, Any]:
    kind, config = layer["class_name"], layer["config"]
    if kind not in _ARGUMENTS:
        raise ValueError(f"layer {config['name']}: no Keras 2 form known for {kind}")
    dtype = config["dtype"]
    old = {
        "name": config["name"],
        "dtype": dtype if isinstance(dtype, str) else dtype["config"]["name"],
    }
    if kind == "InputLayer":
        old["batch_input_shape"] = config["batch_shape"]
    else:
        old["trainable"] = config["trainable"]
    old |= {key: config[key] for key in _ARGUMENTS[kind]}
    return {"module": layer["module"], "class_name": kind, "config": old, "registered_name": None}


def write_weights(
    model: keras.Model, path: Path, *, dtype: type | None = None, labels: str | None = None
) -> None:
    """Writes the weights in the legacy HDF5 layout; the same weights give the same bytes.

    One group per layer, each with a ``weight_names`` attribute in the order of the layer's
    weights, and the root's ``layer_names`` in the order of the layers: the layout of
    ``keras.src.legacy.saving.legacy_h5_format``. Times are not tracked, since they would make
    every file another one. ``dtype`` is what they are stored in, but for those that it cannot
    hold; None is their own. ``labels``, the text of ``labels.txt``, is kept as UTF-8 bytes in an
    array of that name, which no Keras reads.
    """
    import h5py
    import keras

    with h5py.File(path, "w", track_order=False) as file:
        file.attrs["layer_names"] = _names([layer.name for layer in model.layers])
        file.attrs["backend"] = np.bytes_("tensorflow")
        file.attrs["keras_version"] = np.bytes_(keras.__version__)
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = _names(names)
            for name, weight in zip(names, layer.weights, strict=True):
                group.create_dataset(name, data=_stored(weight, dtype), track_times=False)
        if labels is not None:
            text = np.frombuffer(labels.encode(), np.uint8)
            file.create_dataset(LABELS, data=text, track_times=False)


def _stored(weight: keras.Variable, dtype: type | None) -> np.ndarray:
    values = np.asarray(weight)
    # Of grey levels up to 255 the first variances may be beyond float16.
    fits = dtype is None or np.abs(values).max() <= np.finfo(dtype).max
    return values.astype(dtype or values.dtype) if fits else values


def _names(names: list[str]) -> np.ndarray:
    # Fixed-length bytes are stored inside the attribute; variable-length text goes to HDF5's
    # global heap. An empty list still needs a string type.
    return np.array([name.encode() for name in names], dtype=None if names else "S1")


def write(model: keras.Model, folder: Path, labels: str | None = None) -> None:
    """Writes ``model.json`` and ``model_weights.h5``, with these labels, into ``folder``."""
    (folder / MODEL_JSON).write_text(architecture_json(model), encoding="utf-8")
    write_weights(model, folder / MODEL_WEIGHTS, labels=labels)


def write_archive(model: keras.Model, path: Path, labels: str | None = None) -> None:
    """Writes the Keras 3 archive; the same weights give the same bytes.

    ``Model.save`` stamps its members with the time of writing, and saves the states of the dropout
    layers' random generators, which have no part in inference and are others in every process. A
    copy of the model with these states at zero is saved, and its members are packed anew.

    Args:
      model: the float32 reference model.
      path: where to write; it must end in ``.keras``.
      labels: the text of a member ``labels.txt``, which Keras does not read; None adds none.
    """
    import keras

    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    weights = {id(variable) for variable in copy.weights}
    for variable in copy.variables:
        if id(variable) not in weights:
            variable.assign(np.zeros(variable.shape, variable.dtype))
    copy.save(path)
    content = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(content) as saved, zipfile.ZipFile(path, "w") as archive:
        for name in saved.namelist():
            member = saved.read(name)
            if name == _ARCHIVE_METADATA:
                member = json.dumps(json.loads(member) | {"date_saved": _NO_TIME_IN_WORDS})
            archive.writestr(zipfile.ZipInfo(name, _NO_TIME), member)
        if labels is not None:
            archive.writestr(zipfile.ZipInfo(LABELS, _NO_TIME), labels)
