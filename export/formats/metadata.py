"""TFLite Metadata: what a file's input and output mean, inside the file.

The standard (https://ai.google.dev/edge/litert/conversion/tensorflow/metadata) puts a second
flatbuffer, whose schema is ``metadata_schema.fbs`` of tensorflow/tflite-support with the identifier
``M001``, into a buffer of the model that its metadata entry ``TFLITE_METADATA`` names, and appends
files such as the labels to the model as a zip archive of stored members. MediaPipe Tasks and
Android Studio read it; an interpreter passes over it.

Written here field by field: the library that would do it, ``tflite-support``, wants protobuf 3,
with which TensorFlow cannot be installed, and no other package for Python ships its schema alone.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import encode, packer
from flatbuffers.table import Table as StoredTable

from export.spec.artifacts import ARTIFACTS
from export.spec.io_spec import (
    format_labels,
    format_postprocessing,
    get_io_spec,
    parse_labels,
)
from fer_pipeline import __version__
from fer_pipeline.classes import CLASS_NAMES, IMAGE_SIZE, NUM_CLASSES
from fer_pipeline.inference import labels
from fer_pipeline.inference.export_files import LABELS

#: A table of the schema: values by field number. A value is text, a table, a list of tables or of
#: floats, ``np.uint8`` (enumerations) or ``np.uint32``. A union takes two fields, type and value.
Table = dict[int, Any]

_ENTRY, _IDENTIFIER = "TFLITE_METADATA", b"M001"

#: Of the model's own flatbuffer.
_MODEL_IDENTIFIER = b"TFL3"

#: The version of the schema that first knew every field written here.
_MIN_PARSER_VERSION = "1.0.0"

#: Of the archive's member: the oldest date that the format has, and an ordinary file's mode.
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16

#: ``TensorMetadata.description``, ``ModelMetadata.subgraph_metadata``, and of the latter's tables
#: ``input_tensor_metadata`` and ``output_tensor_metadata``.
_DESCRIPTION, _SUBGRAPHS, _GRAPH_INPUTS, _GRAPH_OUTPUTS = 1, 3, 2, 3

#: Members of the unions ``ContentProperties`` and ``ProcessUnitOptions``, and of the enumerations
#: ``AssociatedFileType`` and, by the number of channels, ``ColorSpaceType``.
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES, _NORMALIZATION = np.uint8(1), np.uint8(2), np.uint8(1)
_TENSOR_AXIS_LABELS, _COLOR_SPACES = np.uint8(2), {3: np.uint8(1), 1: np.uint8(2)}

_TITLE, _OTHER_TITLE = "fer_pipeline facial expressions", "fer_pipeline classes of faces"
_AUTHOR = "fer_pipeline"
_INPUT = " The input is a cropped face of 48x48 pixels, resized with antialiasing."
_MIRRORED = " It looks at the face and at its mirror image and answers with the mean of the two."
_LICENSE_TEXT = (
    "Of the software that made it: Apache-2.0. Of the weights: see MODEL_CARD.md; those fitted to"
    " FER-2013 are for research."
)
_INPUTS = {
    1: "A face in grey levels 0..255, as they are: nothing to divide or subtract.",
    3: "A face in RGB levels 0..255, as they are: nothing to divide or subtract.",
}

#: Classes that a description names; of more it says how many there are.
_NAMED = 20

#: What damaged bytes make flatbuffers' reader and zipfile raise.
_UNREADABLE = (
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    EOFError,
    struct.error,
    zipfile.BadZipFile,
)


def describe(
    name: str, num_classes: int = NUM_CLASSES, *, mirror: bool = False
) -> tuple[Table, Table]:
    """What the file of a TFLite format says of its input and output: ``TensorMetadata`` of each."""
    [source], [target] = (get_io_spec(name, 1, num_classes)[end] for end in ("inputs", "outputs"))
    channels = ARTIFACTS[name].channels
    size = {0: np.uint32(IMAGE_SIZE), 1: np.uint32(IMAGE_SIZE)}
    image = {1: size, 0: _COLOR_SPACES[channels]}
    # Mean and standard deviation: nothing is taken from the values.
    unit = {1: {0: [0.0], 1: [1.0]}, 0: _NORMALIZATION}
    labels = {0: LABELS, 2: _TENSOR_AXIS_LABELS}
    return (
        {
            0: source["name"],
            _DESCRIPTION: _INPUTS[channels],
            3: {1: image, 0: _IMAGE_PROPERTIES},
            5: {0: [255.0], 1: [0.0]},
            4: [unit],
            6: [],
        },
        {
            0: target["name"],
            _DESCRIPTION: format_postprocessing(num_classes, mirror=mirror),
            3: {1: {}, 0: _FEATURE_PROPERTIES},
            5: {0: [1.0], 1: [0.0]},
            4: [],
            6: [labels],
        },
    )


def with_metadata(content: bytes, name: str, labels: str, *, mirror: bool = False) -> bytes:
    """A TFLite file with metadata; the same arguments give the same bytes.

    Args:
      content: the flatbuffer of a model without metadata.
      name: its format, a TFLite one of ``artifacts.ARTIFACTS``.
      labels: text of the file of labels, one a line.
      mirror: whether the model averages a face and its mirror image, which its description says.
    """
    from ai_edge_litert import schema_py_generated as model_schema

    model = model_schema.ModelT.InitFromPackedBuf(content)
    buffer, entry = model_schema.BufferT(), model_schema.MetadataT()
    buffer.data = np.frombuffer(_flatbuffer(name, parse_labels(labels), mirror), np.uint8)
    entry.name, entry.buffer = _ENTRY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), _MODEL_IDENTIFIER)
    file = io.BytesIO(builder.Output())
    # "a" puts the archive behind what is there, its offsets counted from the start of the file.
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        member = zipfile.ZipInfo(LABELS, _DATE)
        # By default the system that wrote it, which is not always this one.
        member.create_system, member.external_attr = 3, _MODE
        archive.writestr(member, labels)
    return file.getvalue()


def find_problems(
    content: bytes, name: str, classes: Sequence[str] = CLASS_NAMES
) -> tuple[str, ...]:
    """What is wrong with the metadata of a format's file, a line each; empty when nothing."""
    try:
        found, text = read(content, name)
    except ValueError as error:
        return (str(error),)
    lines = []
    # Another version of the software may describe it in other words.
    for theirs, ours in zip(found, describe(name, len(classes)), strict=True):
        if theirs | {_DESCRIPTION: ""} != ours | {_DESCRIPTION: ""}:
            lines.append("its metadata describes other inputs or outputs")
            break
    if text != format_labels(classes):
        lines.append(f"its {LABELS} holds other labels")
    return tuple(lines)


def read(content: bytes, name: str) -> tuple[tuple[Table, Table], str]:
    """What a format's file says in the fields of ``describe``, and the text of its labels.

    Raises:
      ValueError: there is no metadata, or it cannot be read.
    """
    try:
        data = _buffer(content)
        model = StoredTable(data, encode.Get(packer.uoffset, data, 0))
        image, probabilities = describe(name)
        like = {_SUBGRAPHS: [{_GRAPH_INPUTS: [image], _GRAPH_OUTPUTS: [probabilities]}]}
        [graph] = _unpack(model, like)[_SUBGRAPHS]
        [[source], [target]] = graph.values()
        text = labels.in_archive(io.BytesIO(content))
        if text is None:
            raise ValueError(f"there is no {LABELS}")
        return (source, target), text
    except _UNREADABLE as error:
        raise ValueError(f"its metadata cannot be read ({error})") from error


def _what(classes: Sequence[str]) -> str:
    """What a model does, in one sentence."""
    kind = "expression" if tuple(classes) == CLASS_NAMES else "class"
    if len(classes) > _NAMED:
        return f"Names the {kind} of a face, one of {len(classes):,}."
    return f"Names the {kind} of a face: {', '.join(classes[:-1])} or {classes[-1]}."


def _flatbuffer(name: str, classes: Sequence[str], mirror: bool) -> bytes:
    builder = flatbuffers.Builder(2048)
    tables = describe(name, len(classes), mirror=mirror)
    image, probabilities = (_pack(builder, table) for table in tables)
    graph = _pack(builder, {_GRAPH_INPUTS: [image], _GRAPH_OUTPUTS: [probabilities]})
    model = {
        0: f"{_TITLE if tuple(classes) == CLASS_NAMES else _OTHER_TITLE} ({name})",
        1: _what(classes) + _INPUT + (_MIRRORED if mirror else ""),
        2: __version__,
        _SUBGRAPHS: [graph],
        4: _AUTHOR,
        5: _LICENSE_TEXT,
        7: _MIN_PARSER_VERSION,
    }
    builder.Finish(_pack(builder, model), _IDENTIFIER)
    return bytes(builder.Output())


def _pack(builder: flatbuffers.Builder, value: Any) -> int:
    """Writes text, a table or a list; an int is the offset of what is written already."""
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, list):
        floats = isinstance(value[0], float)
        entries = value if floats else [_pack(builder, table) for table in value]
        builder.StartVector(4, len(entries), 4)
        # A flatbuffer grows from its end to its start.
        for entry in reversed(entries):
            (builder.PrependFloat32 if floats else builder.PrependUOffsetTRelative)(entry)
        return builder.EndVector()
    numbers = {field: one for field, one in value.items() if isinstance(one, np.generic)}
    offsets = {
        field: _pack(builder, one)
        for field, one in value.items()
        if field not in numbers and one != []
    }
    builder.StartObject(max([*offsets, *numbers], default=-1) + 1)
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    for field, number in numbers.items():
        wide = isinstance(number, np.uint32)
        (builder.PrependUint32Slot if wide else builder.PrependUint8Slot)(field, int(number), 0)
    return builder.EndObject()


def _buffer(content: bytes) -> bytes:
    from ai_edge_litert import schema_py_generated as model_schema

    model = model_schema.Model.GetRootAs(content)
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    buffers = [entry.Buffer() for entry in entries if entry.Name() == _ENTRY.encode()]
    if not buffers:
        raise ValueError(f"there is no {_ENTRY}")
    data = model.Buffers(buffers[0]).DataAsNumpy().tobytes()
    if data[4:8] != _IDENTIFIER:
        raise ValueError(f"its identifier is {data[4:8]!r}")
    return data


def _unpack(table: StoredTable, like: Table) -> Table:
    """The fields of a stored table that ``like`` has, each of the type that it has there."""
    return {field: _field(table, field, value) for field, value in like.items()}


def _field(table: StoredTable, field: int, like: Any) -> Any:
    # A vtable begins with two 16-bit sizes. An offset of 0 says that the field is left out.
    offset = table.Offset(4 + 2 * field)
    if isinstance(like, np.generic):
        kind = packer.uint32 if isinstance(like, np.uint32) else packer.uint8
        return type(like)(encode.Get(kind, table.Bytes, table.Pos + offset) if offset else 0)
    if not offset:
        return [] if isinstance(like, list) else None
    if isinstance(like, str):
        return table.String(table.Pos + offset).decode()
    if isinstance(like, dict):
        return _unpack(StoredTable(table.Bytes, table.Indirect(table.Pos + offset)), like)
    start = table.Vector(offset)
    places = range(start, start + 4 * table.VectorLen(offset), 4)
    if like and isinstance(like[0], float):
        return [encode.Get(packer.float32, table.Bytes, place) for place in places]
    # Where none is expected, that there is one is enough.
    first = like[0] if like else {}
    return [_unpack(StoredTable(table.Bytes, table.Indirect(place)), first) for place in places]
