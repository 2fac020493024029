"""The networks by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def build_training_model(name: str = "notebook", **options: Any) -> keras.Model:
    """Builds the same network for training: same function, same weights, fewer memory passes.

    Args:
      name: one of ``NAMES``.
      options: as for ``compact_cnn.build_training_model``. ``dropout`` is the rate before the head
        and nowhere else; None is the network's own.
    """
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
