"""Compares the benchmark's PyTorch network with Keras': outputs and a training step's gradients.

    python tests/proofs/torch_twin.py

Not in the suite because PyTorch is not among its requirements.
"""

import keras
import numpy as np
import tensorflow as tf
import torch

from fer_pipeline.models.notebook_cnn import build_model
from fer_pipeline.throughput import torch_rivals


def main():
    rng = np.random.default_rng(0)
    model = build_model()
    for variable in model.weights:
        if "moving_variance" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    images = rng.integers(0, 256, (16, 48, 48, 1)).astype(np.uint8)
    labels = np.arange(16) % 7
    weights = model.get_weights()
    theirs = torch_rivals.inference(weights, images)()
    print("outputs", np.abs(theirs - model.predict_on_batch(images.astype(np.float32))).max())

    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    with tf.GradientTape() as tape:
        probabilities = model(images.astype(np.float32), training=True)
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, probabilities))
    gradients = tape.gradient(loss, model.trainable_variables)

    # In float64: in float32 the smallest of PyTorch's own roundings chooses another pixel of a pool
    # now and then, which is no difference between the networks.
    net = torch_rivals.network(weights).train().double()
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    logits = net(torch.from_numpy(images.transpose(0, 3, 1, 2)).double())
    torch_loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    torch_loss.backward()
    print("loss", abs(float(loss) - float(torch_loss)))
    worst = 0.0
    for ours, other in zip(gradients, net.parameters(), strict=True):
        # A bias before batch normalisation has no influence: its gradient is mere rounding.
        if len(ours.shape) > 1:
            order = (2, 3, 1, 0) if len(ours.shape) == 4 else (1, 0)
            theirs = other.grad.numpy().transpose(order)
            if ours.shape[0] == 4608:
                theirs = theirs.reshape(512, 3, 3, -1).transpose(1, 2, 0, 3).reshape(ours.shape)
            worst = max(worst, np.abs(ours - theirs).max() / np.abs(ours).max())
    print("kernels' gradients, relative to the largest", worst)


if __name__ == "__main__":
    main()
