"""The names of an export's files, as they are written, opened and checked."""

from __future__ import annotations

LABELS = "labels.txt"
GOLDEN = "golden.npz"
MANIFEST = "manifest.json"
MANIFEST_HASH = "manifest.sha256"
MODEL_CARD = "MODEL_CARD.md"
REPORT = "report.json"

#: Keras' pair, and its archive.
MODEL_JSON, MODEL_WEIGHTS = "model.json", "model_weights.h5"
KERAS_ARCHIVE = "model.keras"

#: TensorFlow Serving wants a numbered version folder, which holds this file among others.
SAVED_MODEL = "saved_model/1"
SAVED_MODEL_GRAPH = "saved_model.pb"

#: What a runtime opens, by format, in the order of the final table.
PATHS = {
    "keras": MODEL_JSON,
    "keras_v3": KERAS_ARCHIVE,
    "saved_model": SAVED_MODEL,
    "float32": "model_float32.tflite",
    "float16": "model_float16.tflite",
    "dynamic_range": "model_dynamic_range.tflite",
    "int8": "model_int8.tflite",
    "float32_rgb": "model_float32_rgb.tflite",
    "int8_rgb": "model_int8_rgb.tflite",
}

#: Which of an export's models answers for all: the exact ones first, and of these the quickest.
PREFERRED = (
    "float32",
    "keras_v3",
    "keras",
    "saved_model",
    "float32_rgb",
    "float16",
    "dynamic_range",
    "int8",
    "int8_rgb",
)
