"""Faces in photographs and films: found, cut out, followed, and drawn with their labels."""

from fer_pipeline import lazy

__getattr__, __all__ = lazy.attach(
    __name__,
    {
        "detector": ["Face", "open_detector"],
        "crops": ["cut"],
        "annotate": ["Mark", "draw"],
        "photographs": ["open_finder", "open_reader"],
        "program": ["predict"],
    },
)
