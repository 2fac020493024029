"""What the device could do if a training step were nothing but its products."""

from __future__ import annotations

from collections.abc import Callable

from fer_pipeline import allocator
from fer_pipeline.throughput import work


def products_alone(policy: str, batch_size: int, *, ours: bool) -> Callable[[], int]:
    """A step of the network's products alone: forward, and both gradients of each but the first.

    No bias, no normalisation, no activation, no optimizer: each layer that has a kernel is called
    on random numbers, and its gradients taken of random numbers.

    Args:
      policy: the dtype policy; its compute dtype is that of all numbers.
      batch_size: images of a step.
      ours: by the algorithms of the network that trains, and not by Keras' layers.

    Returns:
      A function that does a step and returns its number of images.
    """
    import keras
    import tensorflow as tf

    from fer_pipeline.model import build_model, build_training_model

    allocator.keep_memory()
    # The layers' classes, which is where the algorithms are; their weights are made anew.
    network = build_training_model(dtype_policy=policy) if ours else build_model()
    kinds = [type(layer) for layer in network.layers if getattr(layer, "kernel", None) is not None]
    dtype = keras.DTypePolicy(policy).compute_dtype
    jobs = []
    for product, kind in zip(work.products(), kinds, strict=True):
        size, taps, channels, filters = product
        spatial = [] if kind is keras.layers.Dense else [size, size]
        # Variables: TensorFlow would compute with constants once and for all.
        x, upstream = (
            tf.Variable(tf.cast(tf.random.normal([batch_size, *spatial, last]), dtype))
            for last in (channels, filters)
        )
        shape = {"kernel_size": taps, "padding": "same"} if spatial else {}
        layer = kind(filters, use_bias=False, dtype=policy, **shape)
        layer.build(x.shape)
        jobs.append((layer, x, upstream))

    @tf.function
    def step() -> list[tf.Tensor]:
        corners = []
        for i, (layer, x, upstream) in enumerate(jobs):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                inputs = tf.convert_to_tensor(x)
                tape.watch(layer.kernel.value)
                if i:
                    tape.watch(inputs)
                outputs = layer(inputs)
            of = [layer.kernel.value, *([inputs] if i else [])]
            results = [outputs, *tape.gradient(outputs, of, tf.convert_to_tensor(upstream))]
            # Some number of each, so that none is left out.
            corners += [tf.cast(tf.reshape(result, [-1])[0], tf.float32) for result in results]
        return tf.add_n(corners)

    def run() -> int:
        step().numpy()
        return batch_size

    return run
