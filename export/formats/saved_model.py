"""A SavedModel with named signatures that needs neither Keras nor this project to run.

A ``tf.Module`` that holds nothing but the variables is saved, and not the Keras model: what Keras
would add to the file differs from run to run, and serving the model does not need it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from export.formats.mirror import averaged
from export.spec.io_spec import parse_labels
from fer_pipeline import child_processes
from fer_pipeline import images as images_lib
from fer_pipeline.classes import IMAGE_SIZE

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

#: The longest that the process which writes may take; it needs about ten.
_SECONDS = 600

#: The word by which it is asked for a mirrored graph.
_MIRROR = "mirror"


def _module(model: keras.Model) -> tf.Module:
    """A module that tracks the model's variables and not its layers."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = [variable.value for variable in model.weights]
    return module


def _answer(model: keras.Model, mirror: bool) -> Callable[[tf.Tensor], tf.Tensor]:
    """The model in inference mode, float32 ``[N, 48, 48, C] -> [N, K]``."""

    def plain(image: tf.Tensor) -> tf.Tensor:
        return model(image, training=False)

    return averaged(plain) if mirror else plain


def _run(answer: Callable[[tf.Tensor], tf.Tensor], image: tf.Tensor) -> tf.Tensor:
    """The answer to float32 ``[N, 48, 48, 1]``; no image at all gives ``[0, K]``.

    Some kernels (oneDNN's) fail on an empty batch, so it gets an image that is cut off again.
    """
    import tensorflow as tf

    count = tf.shape(image)[0]
    spare = tf.cast(tf.equal(count, 0), tf.int32)
    filled = tf.concat([image, tf.zeros([spare, *image.shape[1:]], image.dtype)], axis=0)
    return answer(filled)[:count]


def write(
    model: keras.Model,
    folder: Path,
    labels_file: Path,
    names: Sequence[str],
    *,
    mirror: bool = False,
) -> None:
    """Writes the SavedModel for any batch size.

    Signatures, N being the batch:
      ``serving_default``: ``image`` float32 ``[N, 48, 48, 1]``, grey levels 0..255 ->
      ``probabilities`` float32 ``[N, K]``, one for each class.
      ``classify``: ``image`` uint8 ``[N, 48, 48, 1]`` -> ``label`` string ``[N]`` and ``score``
      float32 ``[N]``, the name and the probability of the most probable class.
      ``serve_encoded``: ``image_bytes`` string ``[N]``, JPEG and PNG files of any size, grey or
      RGB, converted as ``fer_pipeline.images`` does for training -> ``probabilities`` float32
      ``[N, K]``. Orientation tags are not looked at. Bytes that are no whole JPEG or PNG make it
      raise InvalidArgumentError. (Clients of TF Serving's REST API send them as ``{"b64": ...}``.)

    Of two processes that did the same before, all files are equal but ``fingerprint.pb``, which
    holds a random id. (TensorFlow numbers a graph's functions by a counter of the process; that is
    what ``write_apart`` is for.)

    Args:
      model: takes float32 ``[N, 48, 48, 1]``.
      folder: where to write; its name should be a version number.
      labels_file: the class names, one a line; kept as an asset.
      names: the class names in output order.
      mirror: whether it answers for a face and its mirror image at once, see ``mirror``.
    """
    import tensorflow as tf

    answer = _answer(model, mirror)
    shape = [None, IMAGE_SIZE, IMAGE_SIZE, 1]
    module = _module(model)
    module.labels = tf.saved_model.Asset(str(labels_file))

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, "image")])
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": _run(answer, image)}

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, "image")])
    def classify(image: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = _run(answer, tf.cast(image, tf.float32))
        label = tf.gather(tf.constant(list(names)), tf.argmax(probabilities, axis=-1))
        return {"label": label, "score": tf.reduce_max(probabilities, axis=-1)}

    # Without autograph: decode_face is made of TensorFlow ops alone.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")], autograph=False)
    def serve_encoded(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        # The decoders exist for the CPU alone, and there everybody gets the same grey levels.
        with tf.device("/CPU:0"):
            images = tf.map_fn(
                lambda encoded: images_lib.decode_face(encoded)[0],
                image_bytes,
                fn_output_signature=tf.TensorSpec(images_lib.FACE_SHAPE, tf.uint8),
            )
        return {"probabilities": _run(answer, tf.cast(images, tf.float32))}

    signatures = {"serving_default": serve, "classify": classify, "serve_encoded": serve_encoded}
    module.serve, module.classify, module.serve_encoded = signatures.values()
    tf.saved_model.save(module, str(folder), signatures=signatures)


def write_apart(archive: Path, folder: Path, labels_file: Path, *, mirror: bool = False) -> None:
    """``write`` in a process that does nothing else, so that equal networks give equal bytes.

    The network is given as a ``.keras`` file.

    Raises:
      RuntimeError: it failed; with what it printed.
    """
    arguments = (str(archive), str(folder), str(labels_file), *([_MIRROR] if mirror else []))
    try:
        child_processes.run(__name__, *arguments, seconds=_SECONDS)
    except child_processes.ChildError as error:
        raise RuntimeError(
            f"the SavedModel could not be written: {error.stderr or error}"
        ) from error


def write_fixed_batch(
    model: keras.Model, folder: Path, batch_size: int = 1, *, mirror: bool = False
) -> None:
    """Writes what the TFLite converter reads: one signature with a fixed shape.

    Its input is named ``image`` and its output ``probabilities``, names that a TFLite file keeps
    in its signature. Saved once, it serves every conversion; ``from_keras_model`` would save the
    model again for each.

    Args:
      model: takes float32 ``[N, 48, 48, C]``.
      folder: where to write.
      batch_size: images of a call.
      mirror: as for ``write``; the network sees twice as many.
    """
    import tensorflow as tf

    answer = _answer(model, mirror)
    module = _module(model)
    spec = tf.TensorSpec([batch_size, *model.input_shape[1:]], tf.float32, "image")
    module.serve = tf.function(
        lambda image: {"probabilities": answer(image)}, input_signature=[spec]
    )
    tf.saved_model.save(module, str(folder), signatures=module.serve)


def _main(archive: str, folder: str, labels_file: str, *words: str) -> None:
    import keras

    names = parse_labels(Path(labels_file).read_text(encoding="utf-8"))
    model = keras.models.load_model(archive, compile=False)
    write(model, Path(folder), Path(labels_file), names, mirror=_MIRROR in words)


if __name__ == "__main__":
    _main(*sys.argv[1:])
