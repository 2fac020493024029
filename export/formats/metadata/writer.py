"""Writes TFLite Metadata into a model, field by field."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

import flatbuffers
import numpy as np

from export.formats.metadata import schema
from export.formats.metadata.schema import ModelInfo, TensorInfo
from fer_pipeline.classes import IMAGE_SIZE

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

#: Of the model's own flatbuffer.
_MODEL_IDENTIFIER = b"TFL3"

#: The version of the schema that first knew every field written here.
_MIN_PARSER_VERSION = "1.0.0"

#: Of the archive's member: the oldest date that the format has, and an ordinary file's mode.
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16


def with_metadata(content: bytes, info: ModelInfo, labels: str) -> bytes:
    """A TFLite file with metadata; the same arguments give the same bytes.

    Args:
      content: the flatbuffer of a model without metadata.
      info: what to say of it.
      labels: text of the file that ``info`` names as its labels, one a line.
    """
    from ai_edge_litert import schema_py_generated as model_schema

    model: ModelT = model_schema.ModelT.InitFromPackedBuf(content)
    buffer, entry = model_schema.BufferT(), model_schema.MetadataT()
    buffer.data = np.frombuffer(_flatbuffer(info), np.uint8)
    entry.name, entry.buffer = schema.ENTRY, len(model.buffers)
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
            schema.GRAPH_INPUTS: _vector(builder, [image]),
            schema.GRAPH_OUTPUTS: _vector(builder, [probabilities]),
        },
    )
    fields = {
        schema.NAME: builder.CreateString(info.name),
        schema.DESCRIPTION: builder.CreateString(info.description),
        schema.VERSION: builder.CreateString(info.version),
        schema.SUBGRAPHS: _vector(builder, [graph]),
        schema.AUTHOR: builder.CreateString(info.author),
        schema.LICENSE: builder.CreateString(info.license),
        schema.PARSER: builder.CreateString(_MIN_PARSER_VERSION),
    }
    builder.Finish(_table(builder, fields), schema.IDENTIFIER)
    return bytes(builder.Output())


def _tensor(builder: flatbuffers.Builder, tensor: TensorInfo) -> int:
    smallest, largest = tensor.stats
    fields = {
        schema.NAME: builder.CreateString(tensor.name),
        schema.DESCRIPTION: builder.CreateString(tensor.description),
        schema.TENSOR_CONTENT: _content(builder, tensor.channels),
        schema.TENSOR_STATS: _table(
            builder, {schema.MAX: _floats(builder, largest), schema.MIN: _floats(builder, smallest)}
        ),
    }
    if tensor.normalization:
        mean, deviation = tensor.normalization
        options = _table(
            builder, {schema.MEAN: _floats(builder, mean), schema.STD: _floats(builder, deviation)}
        )
        unit = _table(
            builder,
            {schema.UNION_VALUE: options},
            types={schema.UNION_TYPE: schema.NORMALIZATION_OPTIONS},
        )
        fields[schema.TENSOR_UNITS] = _vector(builder, [unit])
    if tensor.label_file:
        name = builder.CreateString(tensor.label_file)
        file = _table(
            builder, {schema.NAME: name}, types={schema.FILE_TYPE: schema.TENSOR_AXIS_LABELS}
        )
        fields[schema.TENSOR_FILES] = _vector(builder, [file])
    return _table(builder, fields)


def _content(builder: flatbuffers.Builder, channels: int | None) -> int:
    if channels is None:
        kind, properties = schema.FEATURE_PROPERTIES, _table(builder, {})
    else:
        size = _table(builder, {}, sizes={schema.WIDTH: IMAGE_SIZE, schema.HEIGHT: IMAGE_SIZE})
        kind = schema.IMAGE_PROPERTIES
        properties = _table(
            builder,
            {schema.DEFAULT_SIZE: size},
            types={schema.COLOR_SPACE: schema.COLOR_SPACES[channels]},
        )
    return _table(builder, {schema.UNION_VALUE: properties}, types={schema.UNION_TYPE: kind})


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
