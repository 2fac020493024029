"""``Splits`` to ``tf.data``: shuffled, augmented and batched examples."""

from fer_pipeline import lazy

__getattr__, __all__ = lazy.attach(
    __name__, {"batches": ["evaluation_batches", "num_steps", "training_batches"]}
)
