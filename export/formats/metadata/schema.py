"""The parts of TFLite Metadata's schema that are used here, and what they say of a model.

Numbers are those of ``metadata_schema.fbs`` of tensorflow/tflite-support.
"""

from __future__ import annotations

from typing import NamedTuple

#: The name of the model's metadata entry, and the identifier of the flatbuffer in its buffer.
ENTRY = "TFLITE_METADATA"
IDENTIFIER = b"M001"

#: Field numbers, in the order of the schema's tables; a union takes two, its type and its value.
NAME, DESCRIPTION, VERSION, SUBGRAPHS, AUTHOR, LICENSE, PARSER = 0, 1, 2, 3, 4, 5, 7
GRAPH_INPUTS, GRAPH_OUTPUTS = 2, 3
TENSOR_CONTENT, TENSOR_UNITS, TENSOR_STATS, TENSOR_FILES = 3, 4, 5, 6
UNION_TYPE, UNION_VALUE = 0, 1
COLOR_SPACE, DEFAULT_SIZE = 0, 1
WIDTH, HEIGHT = 0, 1
MEAN, STD = 0, 1
MAX, MIN = 0, 1
FILE_TYPE = 2

#: Members of the schema's enumerations and unions.
FEATURE_PROPERTIES, IMAGE_PROPERTIES = 1, 2
NORMALIZATION_OPTIONS = 1
TENSOR_AXIS_LABELS = 2
#: By the number of channels.
COLOR_SPACES = {3: 1, 1: 2}


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
