"""What a model from somebody else asks for, looked at before anything of it runs.

A SavedModel is a program: it runs with the rights of the user, and TensorFlow has operators
that read and write files. So its graph is read as data first, and an operator that an export of
this software does not need is refused by name. Archives are asked what they unpack to, and Keras
files which layers they are made of. None of this guards against an error in TensorFlow itself, nor
against a model that takes long or answers wrongly.
"""

from __future__ import annotations

import copy
import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fer_pipeline.errors import UserError
from fer_pipeline.inference import keras_sizes
from fer_pipeline.inference.export_files import SAVED_MODEL_GRAPH

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

#: Bytes that a file may unpack to: 15 times what the largest file of an export does.
MAX_UNPACKED = 2**28

#: Bytes that the layers of a Keras model may compute for a batch: four times what an export's do.
MAX_COMPUTED = 2**30

#: Bytes of a Keras model's configuration: 28 times what an export's takes.
_MAX_CONFIG = 2**18

#: Of an archive's members. ``zipfile`` unpacks these piece by piece where it is asked for so many
#: bytes; with bzip2 and LZMA it unpacks whatever is there, and looks then.
COMPRESSIONS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})

#: Bytes that are unpacked at a time to count them.
_PIECE = 2**20

#: What the graph of an exported SavedModel is made of. None of it reaches outside the process.
OPERATORS = frozenset(
    """
    AddV2 All Any ArgMax AssignVariableOp AvgPool BiasAdd Cast ConcatV2 Const Conv2D DecodeImage
    DecodeJpeg DecodePng EnsureShape Equal ExpandDims Fill FloorDiv GatherV2 GreaterEqual Identity
    Less LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool Maximum Mean Minimum Mul NoOp NotEqual
    Pack Placeholder ReadVariableOp RealDiv Relu Reshape Round Rsqrt ScaleAndTranslate SelectV2
    Shape Softmax Squeeze StatefulPartitionedCall StatelessIf StatelessWhile StridedSlice StringJoin
    Sub Substr TensorListFromTensor TensorListGetItem TensorListReserve TensorListSetItem
    TensorListStack VarHandleOp VarIsInitializedOp
    """.split()
)

#: What the functions that save and restore a SavedModel's variables need besides; it writes files.
#: TensorFlow's Python never calls them, so nothing that it does call may refer to them.
_SAVING_OPERATORS = OPERATORS | frozenset(
    """
    DisableCopyOnRead MergeV2Checkpoints RestoreV2 SaveV2 Select ShardedFilename
    StaticRegexFullMatch
    """.split()
)

#: Attributes of an export's functions. By others (``api_implements``) the runtime may run another
#: function in place of the one that is called.
_FUNCTION_ATTRIBUTES = frozenset({"_construction_context", "_input_shapes"})

#: Objects of a SavedModel that run nothing when it is loaded.
_OBJECTS = frozenset({"user_object", "asset", "function", "variable", "bare_concrete_function"})

#: Keras' classes that compute, and those that describe them. Others read files or run code.
LAYERS = frozenset(
    """
    Activation Add AveragePooling2D BatchNormalization Concatenate Conv2D DTypePolicy Dense
    DepthwiseConv2D Dropout Flatten Functional GlobalAveragePooling2D GlobalMaxPooling2D InputLayer
    LayerNormalization LeakyReLU MaxPooling2D Model Multiply ReLU Rescaling Reshape SeparableConv2D
    Sequential Softmax SpatialDropout2D ZeroPadding2D __keras_tensor__
    """.split()
)

#: Modules of Keras that these are in, and modules of which all may be used.
_LAYER_MODULES = frozenset(
    {None, "keras", "keras.layers", "keras.models", "keras.src.models.functional"}
)
_HARMLESS_MODULES = frozenset({"keras.initializers", "keras.regularizers", "keras.constraints"})

#: Attributes of Keras 2's HDF5 files that name what is read, and how many names they may hold.
_NAMES = ("layer_names", "weight_names")
_MAX_NAMES = 4096

#: Members of a ``.keras`` file.
_KERAS_CONFIG, _KERAS_WEIGHTS = "config.json", "model.weights.h5"


def check_saved_model(folder: Path) -> None:
    """Refuses a SavedModel whose graph holds more than an export of this software.

    Args:
      folder: the version folder, with ``saved_model.pb``.

    Raises:
      UserError: it is damaged, or names the first operator that is not needed.
    """
    # The protocol buffers alone: nothing is given to TensorFlow's runtime.
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = folder / SAVED_MODEL_GRAPH
    model = SavedModel()
    try:
        model.ParseFromString(_read(path, MAX_UNPACKED))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except DecodeError as error:
        raise UserError(f"{path}: damaged or not a model ({error}); export it again") from error
    if not model.meta_graphs:
        raise UserError(f"{path}: damaged or not a model (it holds no graph); export it again")
    for graph in model.meta_graphs:
        _check_graph(path, graph)


def _check_graph(path: Path, graph: MetaGraphDef) -> None:
    if not graph.HasField("object_graph_def"):
        _refuse(path, "is of TensorFlow 1, whose graph runs when it is opened")
    for node in graph.object_graph_def.nodes:
        kind = node.WhichOneof("kind")
        if kind not in _OBJECTS:
            _refuse(path, f"holds an object of the kind {kind!r}")
    for function in graph.graph_def.library.function:
        # A node of that name would call the function in the operator's place.
        if function.signature.name in _SAVING_OPERATORS:
            _refuse(path, f"calls a function {function.signature.name}, as an operator is called")
        if others := sorted(set(function.attr) - _FUNCTION_ATTRIBUTES):
            _refuse(path, f"holds a function with {', '.join(others)}")
    saving = _saving_functions(graph)
    found = {node.op for node in graph.graph_def.node} - OPERATORS
    for function in graph.graph_def.library.function:
        known = _SAVING_OPERATORS if function.signature.name in saving else OPERATORS
        found |= {node.op for node in function.node_def} - known
    if found:
        _refuse(path, f"its graph asks for {', '.join(sorted(found))}")


def _refuse(path: Path, problem: str) -> NoReturn:
    raise UserError(
        f"{path}: {problem}, which no export of this software needs; --trust runs it all the same,"
        " with your rights"
    )


def _saving_functions(graph: MetaGraphDef) -> set[str]:
    """Functions that save and restore variables, and that nothing else refers to."""
    save = graph.saver_def.save_tensor_name.partition(":")[0]
    nodes = {save, graph.saver_def.restore_op_name}
    saving, others = set(), set(graph.object_graph_def.concrete_functions)
    for node in graph.graph_def.node:
        (saving if node.name in nodes else others).update(_functions_of(node.attr.values()))
        others.add(node.op)
    for function in graph.graph_def.library.function:
        others.update(_functions_of(function.attr.values()))
        for node in function.node_def:
            others.update(_functions_of(node.attr.values()))
            # A function can be called by its name in an operator's place, too.
            others.add(node.op)
    for gradient in graph.graph_def.library.gradient:
        others.update((gradient.function_name, gradient.gradient_func))
    for gradient in graph.graph_def.library.registered_gradients:
        others.add(gradient.gradient_func)
    for node in graph.object_graph_def.nodes:
        others.add(node.bare_concrete_function.concrete_function_name)
        others.update(node.function.concrete_functions)
    return saving - others


def _functions_of(attributes: Iterable[Any]) -> Iterator[str]:
    """Names of the functions that a node's attributes refer to."""
    for value in attributes:
        for function in (value.func, *value.list.func):
            if function.name:
                yield function.name
            yield from _functions_of(function.attr.values())


def check_archive(path: Path) -> None:
    """Refuses a .zip (and so a .keras or .npz file) that unpacks to far more than an export's.

    Raises:
      UserError: it would, a member is compressed by other than DEFLATE, or holds more than the
        archive says: Keras and ``zipfile`` would unpack that before they look.
      zipfile.BadZipFile: it is none.
      OSError: it cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type not in COMPRESSIONS for member in members):
        raise UserError(
            f"{path}: compressed by other than DEFLATE, which no export of this software is"
        )
    size = sum(member.file_size for member in members)
    if size > MAX_UNPACKED:
        raise UserError(
            f"{path}: would unpack to {size / 1e6:,.0f} MB, more than {MAX_UNPACKED / 1e6:,.0f};"
            " no export of this software does"
        )
    with zipfile.ZipFile(path) as archive:
        if any(_holds_more(archive, member) for member in members):
            raise UserError(f"{path}: holds more than it says; no export of this software does")


def _holds_more(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Whether a deflated member unpacks to more than the archive says of it."""
    if member.compress_type != zipfile.ZIP_DEFLATED:
        return False
    # Its bytes as they lie there; the checksum is of what they unpack to.
    packed = copy.copy(member)
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, member.compress_size
    del packed.CRC
    unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with archive.open(packed) as file:
        while part := file.read(_PIECE):
            while part and size <= member.file_size:
                size += len(unpacker.decompress(part, _PIECE))
                part = unpacker.unconsumed_tail
    return size > member.file_size


def check_hdf5(file: Any, path: Path) -> None:
    """Refuses an open ``h5py.File`` of more than plain arrays, or of far more than an export's.

    HDF5 can lead to other files, unpack, and name one array many times. What is left is read from
    this file, once, as it lies there.

    Raises:
      UserError: it does; ``path`` names the file.
      Exception: whatever a damaged file makes ``h5py`` raise.
    """
    import h5py

    items: list[Any] = [file]
    # Given every object once, by its first name.
    file.visititems(lambda _, item: items.append(item))
    if problem := next(filter(None, map(_hdf5_problem, items)), None):
        raise UserError(f"{path}: {problem}; no export of this software does")
    size = sum(item.nbytes for item in items if isinstance(item, h5py.Dataset))
    if size > MAX_UNPACKED:
        raise UserError(
            f"{path}: holds arrays of {size / 1e6:,.0f} MB, more than"
            f" {MAX_UNPACKED / 1e6:,.0f}; no export of this software does"
        )
    named = [address for item in items for address in _named(item)]
    if len(set(named)) < len(named):
        raise UserError(f"{path}: names an array or layer twice; no export of this software does")


def _hdf5_problem(item: Any) -> str | None:
    """What one object of an HDF5 file is besides a group or an array as it lies there."""
    import h5py

    attributes = [item.attrs.get_id(name) for name in item.attrs]
    if any(math.prod(attribute.shape) > _MAX_NAMES for attribute in attributes):
        return f"holds an attribute of more than {_MAX_NAMES} values"
    # Keras' way to go on with names that do not fit one attribute.
    if {f"{name}0" for name in _NAMES} & set(item.attrs):
        return "holds names in parts"
    if isinstance(item, h5py.Group):
        links = (item.get(name, getlink=True) for name in item)
        return None if all(isinstance(k, h5py.HardLink) for k in links) else "holds a soft link"
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "biuf":
        return "holds something else than numbers"
    if item.external or item.is_virtual:
        return "holds an array that lies elsewhere"
    # A filter may unpack to more than the array's size.
    return "holds a compressed array" if item.id.get_create_plist().get_nfilters() else None


def _named(item: Any) -> Iterator[int]:
    """Addresses of the objects that a group's lists name: those that are read."""
    import h5py

    for attribute in _NAMES:
        for name in item.attrs.get(attribute, ()):
            yield h5py.h5o.get_info(item[name].id).addr


def check_keras(path: Path) -> None:
    """Refuses a Keras model of layers that do more than compute, or that takes far too much.

    Keras itself refuses to run Python code that a file brings along, but it knows layers that read
    files.

    Args:
      path: ``model.json``, or a ``.keras`` file.

    Raises:
      UserError: names the classes that are refused, or what takes more than an export's.
      Exception: whatever a damaged file makes ``json``, ``zipfile`` and ``h5py`` raise.
    """
    if path.suffix == ".json":
        config = _read(path, _MAX_CONFIG)
    else:
        check_archive(path)
        import h5py

        with zipfile.ZipFile(path) as archive:
            _check_size(path, archive.getinfo(_KERAS_CONFIG).file_size, _MAX_CONFIG)
            config = archive.read(_KERAS_CONFIG)
            with h5py.File(io.BytesIO(archive.read(_KERAS_WEIGHTS))) as file:
                check_hdf5(file, path)
    if strangers := sorted(set(_unknown_classes(json.loads(config)))):
        _refuse(path, f"asks for {', '.join(strangers)}")
    variables, outputs = keras_sizes.measure(config)
    for size, most, what in (
        (variables, MAX_UNPACKED, "holds variables"),
        (outputs, MAX_COMPUTED, "computes outputs"),
    ):
        if size > most:
            _refuse(path, f"{what} of {size / 1e6:,.0f} MB, more than {most / 1e6:,.0f}")


def _read(path: Path, most: int) -> bytes:
    """A file's bytes, of which there may be so many."""
    with open(path, "rb") as file:
        _check_size(path, os.fstat(file.fileno()).st_size, most)
        return file.read(most)


def _check_size(path: Path, size: int, most: int) -> None:
    if size > most:
        _refuse(path, f"its graph takes {size / 1e6:,.1f} MB, more than {most / 1e6:,.1f}")


def _unknown_classes(config: Any) -> Iterator[str]:
    if isinstance(config, list):
        for value in config:
            yield from _unknown_classes(value)
    if not isinstance(config, dict):
        return
    if "class_name" in config:
        module, name = config.get("module"), str(config["class_name"])
        layer = module in _LAYER_MODULES and name in LAYERS
        if not layer and module not in _HARMLESS_MODULES:
            yield f"{module}.{name}" if module else name
    for value in config.values():
        yield from _unknown_classes(value)
