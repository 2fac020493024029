"""The networks by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fer_pipeline.classes import NUM_CLASSES
from fer_pipeline.models import compact_cnn, notebook_cnn

if TYPE_CHECKING:
    import keras

#: The network of the notebook, and one network at three widths.
NAMES = ("notebook", *compact_cnn.WIDTHS)


def build_model(
    name: str = "notebook", num_classes: int = NUM_CLASSES, *, batch_size: int | None = None
) -> keras.Model:
    """Builds a float32 network of Keras' own layers; see ``notebook_cnn`` and ``compact_cnn``."""
    if name == "notebook":
        return notebook_cnn.build_model(num_classes, batch_size=batch_size)
    return compact_cnn.build_model(name, num_classes, batch_size=batch_size)


def build_training_model(
    name: str = "notebook", num_classes: int = NUM_CLASSES, **options: Any
) -> keras.Model:
    """Builds the same network for training: same function, same weights, fewer memory passes.

    Args:
      name: one of ``NAMES``.
      num_classes: units of the last layer.
      options: as for ``compact_cnn.build_training_model``. ``dropout`` is the rate before the head
        and nowhere else; None is the network's own.
    """
    if name == "notebook":
        return notebook_cnn.build_training_model(num_classes, **options)
    return compact_cnn.build_training_model(name, num_classes, **options)


def count_parameters(name: str = "notebook", num_classes: int = NUM_CLASSES) -> int:
    """Parameters of a network, the moving statistics included, without building it."""
    if name == "notebook":
        return notebook_cnn.count_parameters(num_classes)
    return compact_cnn.count_parameters(name, num_classes)


def count_layers(name: str = "notebook") -> int:
    """Layers with weights of a network, the head included, without building it."""
    if name == "notebook":
        return notebook_cnn.count_layers()
    return compact_cnn.count_layers(name)


def freeze(model: keras.Model, first: int | None) -> None:
    """Has the first layers with weights keep them; None is all but the last.

    Their batch normalisation goes by its moving statistics, in training too. To be called before
    an optimizer or a step is made of the model.
    """
    layers = [layer for layer in model.layers if layer.weights]
    for layer in layers[:-1][:first]:
        layer.trainable = False


def name_of(parameters: int, num_classes: int = NUM_CLASSES) -> str | None:
    """The network that has so many parameters for so many classes; None where there is none."""
    counts = {name: count_parameters(name, num_classes) for name in NAMES}
    return next((name for name, count in counts.items() if count == parameters), None)
