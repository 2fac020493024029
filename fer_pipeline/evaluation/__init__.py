"""Metrics and figures of a trained network, and the report that shows them."""

from fer_pipeline import lazy

__getattr__, __all__ = lazy.attach(
    __name__,
    {
        "calibration": ["Calibration", "measure"],
        "metrics": ["Evaluation", "Predictions", "format_report", "predict", "score"],
        "mistakes": ["Mistakes"],
        "plots": ["architecture", "confusion_matrix", "counts", "curves", "samples"],
        "reliability": ["diagram"],
        "report": ["build", "write"],
        "temperature": ["calibrate", "fit", "fold"],
    },
)
