"""The same bits from the same command: threads, kernels and random draws held fixed."""

from __future__ import annotations

from fer_pipeline import cores
from fer_pipeline.errors import UserError


def configure(*, seed: int, threads: int | None, deterministic: bool) -> int:
    """Sets how many threads TensorFlow computes with, and what it may do with them.

    How many threads share a sum decides its order, hence its last bits: equal counts give equal
    bits, other counts do not. ``deterministic`` also forbids kernels that add in any order and
    seeds what no stage seeds itself. It has to come before anything else that TensorFlow does.

    Args:
      seed: for Python's, NumPy's and Keras' global generators.
      threads: of one operation; None is one for each core that this process may use.
      deterministic: whether a repetition has to give the same bits.

    Returns:
      The number of threads.

    Raises:
      UserError: TensorFlow is at work in this process already.
    """
    import keras
    import tensorflow as tf

    count = threads or cores.usable()
    if threads or deterministic:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(count)
        except RuntimeError as error:
            raise UserError(
                "--threads, --deterministic: TensorFlow runs already; start a new process"
            ) from error
    if deterministic:
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
    # An earlier training of this process may have chosen a number, which stays; 0 is none.
    return tf.config.threading.get_intra_op_parallelism_threads() or count
