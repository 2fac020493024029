"""TFLite Metadata: what a file's input and output mean, inside the file.

The standard (https://ai.google.dev/edge/litert/conversion/tensorflow/metadata) puts a second
flatbuffer, whose schema is ``metadata_schema.fbs`` of tensorflow/tflite-support with the identifier
``M001``, into a buffer of the model that its metadata entry ``TFLITE_METADATA`` names, and appends
files such as the labels to the model as a zip archive of stored members. MediaPipe Tasks and
Android Studio read it; an interpreter passes over it.

Written here field by field: the library that would do it, ``tflite-support``, wants protobuf 3,
with which TensorFlow cannot be installed, and no other package for Python ships its schema.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import flatbuffers
import numpy as np
from flatbuffers import encode, packer
from flatbuffers.table import Table

from export.artifacts import ARTIFACTS, LABELS
from export.contract import CONTRACTS, POSTPROCESSING, labels_text
from fer_pipeline import __version__
from fer_pipeline.expressions import IMAGE_SIZE

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_ENTRY = "TFLITE_METADATA"
_IDENTIFIER = b"M001"
#: Of the model's own flatbuffer.
_MODEL_IDENTIFIER = b"TFL3"

#: The version of the schema that first knew every field written here.
_MIN_PARSER_VERSION = "1.0.0"

#: Field numbers, in the order of the schema's tables; a union takes two, its type and its value.
_NAME, _DESCRIPTION, _VERSION, _SUBGRAPHS, _AUTHOR, _LICENSE, _PARSER = 0, 1, 2, 3, 4, 5, 7
_GRAPH_INPUTS, _GRAPH_OUTPUTS = 2, 3
_TENSOR_CONTENT, _TENSOR_UNITS, _TENSOR_STATS, _TENSOR_FILES = 3, 4, 5, 6
_UNION_TYPE, _UNION_VALUE = 0, 1
_COLOR_SPACE, _DEFAULT_SIZE = 0, 1
_WIDTH, _HEIGHT = 0, 1
_MEAN, _STD = 0, 1
_MAX, _MIN = 0, 1
_FILE_TYPE = 2

#: Members of the schema's enumerations and unions.
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2
_NORMALIZATION_OPTIONS = 1
_COLOR_SPACES = {3: 1, 1: 2}
_TENSOR_AXIS_LABELS = 2

#: Of the archive's member: the oldest date that the format has, and an ordinary file's mode.
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16

_TITLE = "fer_pipeline facial expressions"
_WHAT = (
    "Names the expression of a face: angry, disgust, fear, happy, neutral, sad or surprise."
    " The input is a cropped face of 48x48 pixels, resized with antialiasing."
)
_LICENSE_TEXT = (
    "Of the software that made it: Apache-2.0. Of the weights: see MODEL_CARD.md; those fitted to"
    " FER-2013 are for research."
)
_INPUTS = {
    1: "A face in grey levels 0..255, as they are: nothing to divide or subtract.",
    3: "A face in RGB levels 0..255, as they are: nothing to divide or subtract.",
}


class TensorInfo(NamedTuple):
    """What metadata says of an input or output.

    Attributes:
      name: of the tensor.
      description: in words.
      channels: of an image, by its colour space: 3 or 1; None of another tensor.
      normalization: (mean, standard deviation) that the caller takes from its values, or None.
      stats: (smallest, largest) value.
      label_file: name of the archive's member that labels the last axis, or None.
    """

    name: str
    description: str
    channels: int | None
    normalization: tuple[float, float] | None
    stats: tuple[float, float]
    label_file: str | None


class ModelInfo(NamedTuple):
    """What metadata says of a model with one input and one output.

    Attributes:
      name: of the model.
      description: in words.
      version: of the software that made it.
      author: who made it.
      license: in words.
      image: the input.
      probabilities: the output.
    """

    name: str
    description: str
    version: str
    author: str
    license: str
    image: TensorInfo
    probabilities: TensorInfo


def describe(name: str) -> ModelInfo:
    """What the file of a TFLite format from ``artifacts.ARTIFACTS`` says of itself."""
    [source], [target] = CONTRACTS[name]["inputs"], CONTRACTS[name]["outputs"]
    channels = ARTIFACTS[name].channels
    image = TensorInfo(source["name"], _INPUTS[channels], channels, (0.0, 1.0), (0.0, 255.0), None)
    probabilities = TensorInfo(target["name"], POSTPROCESSING, None, None, (0.0, 1.0), LABELS)
    return ModelInfo(
        f"{_TITLE} ({name})",
        _WHAT,
        __version__,
        "fer_pipeline",
        _LICENSE_TEXT,
        image,
        probabilities,
    )


def with_metadata(content: bytes, info: ModelInfo, labels: str) -> bytes:
    """A TFLite file with metadata; the same arguments give the same bytes.

    Args:
      content: the flatbuffer of a model without metadata.
      info: what to say of it.
      labels: text of the file that ``info`` names as its labels, one a line.
    """
    from ai_edge_litert import schema_py_generated as schema

    model: ModelT = schema.ModelT.InitFromPackedBuf(content)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(_flatbuffer(info), np.uint8)
    entry.name, entry.buffer = _ENTRY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), _MODEL_IDENTIFIER)
    file = io.BytesIO(builder.Output())
    # "a" puts the archive behind what is there, its offsets counted from the start of the file.
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        member = zipfile.ZipInfo(info.probabilities.label_file, _DATE)
        # By default the system that wrote it, which is not always this one.
        member.create_system, member.external_attr = 3, _MODE
        archive.writestr(member, labels)
    return file.getvalue()


def _flatbuffer(info: ModelInfo) -> bytes:
    builder = flatbuffers.Builder(2048)
    image, probabilities = (_tensor(builder, t) for t in (info.image, info.probabilities))
    graph = _table(
        builder,
        {
            _GRAPH_INPUTS: _vector(builder, [image]),
            _GRAPH_OUTPUTS: _vector(builder, [probabilities]),
        },
    )
    fields = {
        _NAME: builder.CreateString(info.name),
        _DESCRIPTION: builder.CreateString(info.description),
        _VERSION: builder.CreateString(info.version),
        _SUBGRAPHS: _vector(builder, [graph]),
        _AUTHOR: builder.CreateString(info.author),
        _LICENSE: builder.CreateString(info.license),
        _PARSER: builder.CreateString(_MIN_PARSER_VERSION),
    }
    builder.Finish(_table(builder, fields), _IDENTIFIER)
    return bytes(builder.Output())


def _tensor(builder: flatbuffers.Builder, tensor: TensorInfo) -> int:
    smallest, largest = tensor.stats
    fields = {
        _NAME: builder.CreateString(tensor.name),
        _DESCRIPTION: builder.CreateString(tensor.description),
        _TENSOR_CONTENT: _content(builder, tensor.channels),
        _TENSOR_STATS: _table(
            builder, {_MAX: _floats(builder, largest), _MIN: _floats(builder, smallest)}
        ),
    }
    if tensor.normalization:
        mean, deviation = tensor.normalization
        options = _table(
            builder, {_MEAN: _floats(builder, mean), _STD: _floats(builder, deviation)}
        )
        unit = _table(builder, {_UNION_VALUE: options}, types={_UNION_TYPE: _NORMALIZATION_OPTIONS})
        fields[_TENSOR_UNITS] = _vector(builder, [unit])
    if tensor.label_file:
        name = builder.CreateString(tensor.label_file)
        file = _table(builder, {_NAME: name}, types={_FILE_TYPE: _TENSOR_AXIS_LABELS})
        fields[_TENSOR_FILES] = _vector(builder, [file])
    return _table(builder, fields)


def _content(builder: flatbuffers.Builder, channels: int | None) -> int:
    if channels is None:
        kind, properties = _FEATURE_PROPERTIES, _table(builder, {})
    else:
        size = _table(builder, {}, sizes={_WIDTH: IMAGE_SIZE, _HEIGHT: IMAGE_SIZE})
        kind = _IMAGE_PROPERTIES
        properties = _table(
            builder, {_DEFAULT_SIZE: size}, types={_COLOR_SPACE: _COLOR_SPACES[channels]}
        )
    return _table(builder, {_UNION_VALUE: properties}, types={_UNION_TYPE: kind})


def _table(
    builder: flatbuffers.Builder,
    offsets: dict[int, int],
    *,
    types: dict[int, int] | None = None,
    sizes: dict[int, int] | None = None,
) -> int:
    """Writes a table: fields that were written before, 8-bit enumerations, 32-bit sizes."""
    types, sizes = types or {}, sizes or {}
    builder.StartObject(max([*offsets, *types, *sizes], default=-1) + 1)
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    for field, size in sizes.items():
        builder.PrependUint32Slot(field, size, 0)
    for field, kind in types.items():
        builder.PrependUint8Slot(field, kind, 0)
    return builder.EndObject()


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    # A flatbuffer grows from its end to its start.
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _floats(builder: flatbuffers.Builder, *values: float) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()


def read(content: bytes) -> tuple[ModelInfo, str]:
    """The metadata of a TFLite file and the text of its label file.

    Raises:
      ValueError: there is none, or it cannot be read.
    """
    try:
        info = _model_info(_buffer(content))
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            labels = archive.read(info.probabilities.label_file or "").decode()
    # What damaged bytes make flatbuffers' reader and zipfile raise.
    except (
        ValueError,
        LookupError,
        TypeError,
        RuntimeError,
        EOFError,
        struct.error,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(f"its metadata cannot be read ({error})") from error
    return info, labels


def _buffer(content: bytes) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    buffers = [entry.Buffer() for entry in entries if entry.Name() == _ENTRY.encode()]
    if not buffers:
        raise ValueError(f"there is no {_ENTRY}")
    data = model.Buffers(buffers[0]).DataAsNumpy().tobytes()
    if data[4:8] != _IDENTIFIER:
        raise ValueError(f"its identifier is {data[4:8]!r}")
    return data


def _model_info(data: bytes) -> ModelInfo:
    model = Table(data, encode.Get(packer.uoffset, data, 0))
    [graph] = _tables(model, _SUBGRAPHS)
    [image], [probabilities] = _tables(graph, _GRAPH_INPUTS), _tables(graph, _GRAPH_OUTPUTS)
    texts = [_text(model, f) for f in (_NAME, _DESCRIPTION, _VERSION, _AUTHOR, _LICENSE)]
    return ModelInfo(*texts, _tensor_info(image), _tensor_info(probabilities))


def _tensor_info(tensor: Table) -> TensorInfo:
    content, stats = _child(tensor, _TENSOR_CONTENT), _child(tensor, _TENSOR_STATS)
    channels = normalization = label_file = None
    if _number(content, _UNION_TYPE) == _IMAGE_PROPERTIES:
        space = _number(_child(content, _UNION_VALUE), _COLOR_SPACE)
        channels = {value: key for key, value in _COLOR_SPACES.items()}[space]
    for unit in _tables(tensor, _TENSOR_UNITS):
        if _number(unit, _UNION_TYPE) == _NORMALIZATION_OPTIONS:
            options = _child(unit, _UNION_VALUE)
            normalization = _float(options, _MEAN), _float(options, _STD)
    for file in _tables(tensor, _TENSOR_FILES):
        if _number(file, _FILE_TYPE) == _TENSOR_AXIS_LABELS:
            label_file = _text(file, _NAME)
    return TensorInfo(
        _text(tensor, _NAME),
        _text(tensor, _DESCRIPTION),
        channels,
        normalization,
        (_float(stats, _MIN), _float(stats, _MAX)),
        label_file,
    )


def _offset(table: Table, field: int) -> int:
    """Where a field lies in its table; 0 if it is left out."""
    # A vtable begins with two 16-bit sizes.
    return table.Offset(4 + 2 * field)


def _child(table: Table, field: int) -> Table:
    return Table(table.Bytes, table.Indirect(table.Pos + _offset(table, field)))


def _tables(table: Table, field: int) -> list[Table]:
    offset = _offset(table, field)
    if not offset:
        return []
    start, count = table.Vector(offset), table.VectorLen(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(count)]


def _text(table: Table, field: int) -> str:
    return table.String(table.Pos + _offset(table, field)).decode()


def _number(table: Table, field: int) -> int:
    offset = _offset(table, field)
    return encode.Get(packer.uint8, table.Bytes, table.Pos + offset) if offset else 0


def _float(table: Table, field: int) -> float:
    """The first of a vector of floats."""
    return encode.Get(packer.float32, table.Bytes, table.Vector(_offset(table, field)))


def problems(content: bytes, name: str) -> tuple[str, ...]:
    """What is wrong with the metadata of a format's file, a line each; empty when nothing."""
    try:
        info, labels = read(content)
    except ValueError as error:
        return (str(error),)
    found = []
    if _facts(info) != _facts(describe(name)):
        found.append("its metadata describes other inputs or outputs")
    if labels != labels_text():
        found.append(f"its {LABELS} holds other labels")
    return tuple(found)


def _facts(info: ModelInfo) -> list[TensorInfo]:
    """What a program goes by; another version of the software may describe it in other words."""
    return [tensor._replace(description="") for tensor in (info.image, info.probabilities)]
