"""The networks, and faster layers for training."""

from fer_pipeline import lazy

__getattr__, __all__ = lazy.attach(
    __name__, {"notebook_cnn": ["build_model", "build_training_model", "count_parameters"]}
)
