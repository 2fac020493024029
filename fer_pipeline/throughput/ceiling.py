"""What the device could do if a training step were nothing but its products."""

from __future__ import annotations

from collections.abc import Callable

from fer_pipeline.devices import allocator
from fer_pipeline.throughput import work


def products_alone(
    policy: str, batch_size: int, *, ours: bool, jit_compile: bool = False
) -> Callable[[int], int]:
    """Steps of the network's products alone: forward, and both gradients of each but the first.

    No bias, no normalisation, no activation, no optimizer: each layer that has a kernel is called
    on random numbers, and its gradients taken of random numbers. They run as the training's steps
    do, many in one call, each compiled by XLA or not, since what Python or the launching of single
    operations costs would otherwise be a part of the limit.

    Args:
      policy: the dtype policy; its compute dtype is that of all numbers.
      batch_size: images of a step.
      ours: by the algorithms of the network that trains, and not by Keras' layers.
      jit_compile: compile a step by XLA.

    Returns:
      A function that does so many steps in one call and returns their number of images.
    """
    import keras
    import tensorflow as tf

    from fer_pipeline.models.notebook_cnn import build_model, build_training_model

    allocator.retain_freed_memory()
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

    def step() -> list[tf.Tensor]:
        results = []
        for i, (layer, x, upstream) in enumerate(jobs):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                inputs = tf.convert_to_tensor(x)
                tape.watch(layer.kernel.value)
                if i:
                    tape.watch(inputs)
                outputs = layer(inputs)
            of = [layer.kernel.value, *([inputs] if i else [])]
            results += [outputs, *tape.gradient(outputs, of, tf.convert_to_tensor(upstream))]
        return results

    # It gives its results as a whole: of a product whose corner alone is wanted XLA may compute
    # just that.
    run = tf.function(step, jit_compile=True) if jit_compile else step

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def steps(count: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(count):
            # Some number of each, so that none is left out.
            corners = [tf.cast(tf.reshape(result, [-1])[0], tf.float32) for result in run()]
            total += tf.add_n(corners)
        return total

    def take(count: int) -> int:
        steps(tf.constant(count)).numpy()
        return count * batch_size

    return take
