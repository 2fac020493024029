"""``Splits`` to ``tf.data``: shuffled, augmented and batched examples."""
