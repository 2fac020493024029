"""Reads TFLite Metadata from a model."""

from __future__ import annotations

import io
import struct
import zipfile

from flatbuffers import encode, packer
from flatbuffers.table import Table

from export.formats.metadata import schema
from export.formats.metadata.schema import ModelInfo, TensorInfo


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
    from ai_edge_litert import schema_py_generated as model_schema

    model = model_schema.Model.GetRootAs(content)
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    buffers = [entry.Buffer() for entry in entries if entry.Name() == schema.ENTRY.encode()]
    if not buffers:
        raise ValueError(f"there is no {schema.ENTRY}")
    data = model.Buffers(buffers[0]).DataAsNumpy().tobytes()
    if data[4:8] != schema.IDENTIFIER:
        raise ValueError(f"its identifier is {data[4:8]!r}")
    return data


def _model_info(data: bytes) -> ModelInfo:
    model = Table(data, encode.Get(packer.uoffset, data, 0))
    [graph] = _tables(model, schema.SUBGRAPHS)
    [image] = _tables(graph, schema.GRAPH_INPUTS)
    [probabilities] = _tables(graph, schema.GRAPH_OUTPUTS)
    return ModelInfo(
        name=_text(model, schema.NAME),
        description=_text(model, schema.DESCRIPTION),
        version=_text(model, schema.VERSION),
        author=_text(model, schema.AUTHOR),
        license=_text(model, schema.LICENSE),
        image=_tensor_info(image),
        probabilities=_tensor_info(probabilities),
    )


def _tensor_info(tensor: Table) -> TensorInfo:
    content, stats = _child(tensor, schema.TENSOR_CONTENT), _child(tensor, schema.TENSOR_STATS)
    channels = normalization = label_file = None
    if _number(content, schema.UNION_TYPE) == schema.IMAGE_PROPERTIES:
        space = _number(_child(content, schema.UNION_VALUE), schema.COLOR_SPACE)
        channels = {value: key for key, value in schema.COLOR_SPACES.items()}[space]
    for unit in _tables(tensor, schema.TENSOR_UNITS):
        if _number(unit, schema.UNION_TYPE) == schema.NORMALIZATION_OPTIONS:
            options = _child(unit, schema.UNION_VALUE)
            normalization = _float(options, schema.MEAN), _float(options, schema.STD)
    for file in _tables(tensor, schema.TENSOR_FILES):
        if _number(file, schema.FILE_TYPE) == schema.TENSOR_AXIS_LABELS:
            label_file = _text(file, schema.NAME)
    return TensorInfo(
        _text(tensor, schema.NAME),
        _text(tensor, schema.DESCRIPTION),
        channels,
        normalization,
        (_float(stats, schema.MIN), _float(stats, schema.MAX)),
        label_file,
    )


def _offset(table: Table, field: int) -> int:
    """Where a field lies in its table; 0 if it is left out."""
    # A vtable begins with two 16-bit sizes.
    return table.Offset(4 + 2 * field)


def _required(table: Table, field: int) -> int:
    """Where a field lies that this software always writes."""
    offset = _offset(table, field)
    if not offset:
        raise ValueError(f"it has no field {field}")
    return offset


def _child(table: Table, field: int) -> Table:
    return Table(table.Bytes, table.Indirect(table.Pos + _required(table, field)))


def _tables(table: Table, field: int) -> list[Table]:
    offset = _offset(table, field)
    if not offset:
        return []
    start, count = table.Vector(offset), table.VectorLen(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(count)]


def _text(table: Table, field: int) -> str:
    return table.String(table.Pos + _required(table, field)).decode()


def _number(table: Table, field: int) -> int:
    offset = _offset(table, field)
    return encode.Get(packer.uint8, table.Bytes, table.Pos + offset) if offset else 0


def _float(table: Table, field: int) -> float:
    """The first of a vector of floats."""
    return encode.Get(packer.float32, table.Bytes, table.Vector(_required(table, field)))
