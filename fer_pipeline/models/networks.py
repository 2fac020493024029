"""The networks by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fer_pipeline.models import compact_cnn, notebook_cnn

if TYPE_CHECKING:
    import keras

#: The network of the notebook, and one network at three widths.
NAMES = ("notebook", *compact_cnn.WIDTHS)


def build_model(name: str = "notebook", *, batch_size: int | None = None) -> keras.Model:
    """Builds a float32 network of Keras' own layers; see ``notebook_cnn`` and ``compact_cnn``."""
    if name == "notebook":
        return notebook_cnn.build_model(batch_size=batch_size)
    return compact_cnn.build_model(name, batch_size=batch_size)


def build_training_model(
    name: str = "notebook",
    *,
    dtype_policy: str = "float32",
    seed: int = 0,
    replicas: int = 1,
    dropout: float | None = None,
    normalization_momentum: float = 0.99,
) -> keras.Model:
    """Builds the same network for training: same function, same weights, fewer memory passes.

    Args:
      name: one of ``NAMES``.
      dtype_policy: a Keras dtype policy, such as ``"mixed_bfloat16"``.
      seed: seed of the initial weights and of the dropout masks.
      replicas: copies of the network that will train together.
      dropout: rate before the head and nowhere else; None is the network's own.
      normalization_momentum: of batch normalisation's moving statistics.
    """
    options = {
        "dtype_policy": dtype_policy,
        "seed": seed,
        "replicas": replicas,
        "dropout": dropout,
        "normalization_momentum": normalization_momentum,
    }
    if name == "notebook":
        return notebook_cnn.build_training_model(**options)
    return compact_cnn.build_training_model(name, **options)


def count_parameters(name: str = "notebook") -> int:
    """Parameters of a network, the moving statistics included, without building it."""
    if name == "notebook":
        return notebook_cnn.count_parameters()
    return compact_cnn.count_parameters(name)


def name_of(parameters: int) -> str | None:
    """The network that has so many parameters; None where there is none."""
    return next((name for name in NAMES if count_parameters(name) == parameters), None)
