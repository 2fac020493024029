"""Metrics and figures of a trained network."""

from fer_pipeline import lazy

__getattr__, __all__ = lazy.attach(
    __name__,
    {
        "calibration": ["Calibration", "measure"],
        "metrics": ["Evaluation", "Predictions", "format_report", "predict", "score"],
        "plots": ["architecture", "confusion_matrix", "counts", "curves", "samples"],
        "reliability": ["diagram"],
        "temperature": ["calibrate", "fit", "fold"],
    },
)
