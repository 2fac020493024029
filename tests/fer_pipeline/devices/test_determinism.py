"""Threads can only be pinned before TensorFlow runs."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf

from fer_pipeline.devices import determinism
from fer_pipeline.errors import UserError

SCRIPT = """
import keras, numpy as np, random, tensorflow as tf
from fer_pipeline.devices import determinism
assert determinism.configure(seed=3, threads=1, deterministic=True) == 1
print(tf.config.threading.get_intra_op_parallelism_threads())
print(random.random(), np.random.rand(), float(keras.random.uniform(())))
"""


@pytest.mark.slow
def test_a_repetition_draws_the_same_on_as_many_threads():
    command = [sys.executable, "-c", SCRIPT]
    first, again = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first == again
    assert first.splitlines()[0] == "1"


def test_without_a_wish_there_is_a_thread_a_core():
    assert determinism.configure(seed=0, threads=None, deterministic=False) == len(
        os.sched_getaffinity(0)
    )


def test_the_threads_that_an_earlier_training_chose_stay(monkeypatch):
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 77)
    assert determinism.configure(seed=0, threads=None, deterministic=False) == 77


def test_too_late_is_said():
    tf.constant(0)
    count = tf.config.threading.get_intra_op_parallelism_threads() + 1
    with pytest.raises(UserError, match="TensorFlow runs already"):
        determinism.configure(seed=0, threads=count, deterministic=False)
