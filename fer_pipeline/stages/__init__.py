"""A run from start to end: opened, trained, evaluated, exported."""

from fer_pipeline import lazy

__getattr__, __all__ = lazy.attach(
    __name__,
    {
        "run": ["run_training"],
    },
)
