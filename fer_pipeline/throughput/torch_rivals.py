"""The same work in PyTorch, for comparison; needs the extra ``bench``."""

from __future__ import annotations

import importlib
import itertools
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fer_pipeline.datasets.splits import Split
from fer_pipeline.devices import allocator
from fer_pipeline.models import notebook_cnn
from fer_pipeline.throughput import work

if TYPE_CHECKING:
    import torch

_LEARNING_RATE = 5e-4

#: Keras' defaults; PyTorch counts momentum from the other end.
_EPSILON, _MOMENTUM = 1e-3, 1 - 0.99


class _Faces:
    """A map-style dataset as its tutorials write one: an item is an image, mirrored or not."""

    def __init__(self, split: Split):
        self._images, self._labels = split

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        import torch

        image = torch.from_numpy(self._images[i, ..., 0])
        return (image.flip(-1) if random.random() < 0.5 else image), int(self._labels[i])


class _Batches(_Faces):
    """The same by the method that the loader prefers where there is one: a batch at a time."""

    def __getitems__(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        images = torch.from_numpy(self._images[rows, ..., 0])
        mirrored = torch.rand(len(rows)) < 0.5
        images[mirrored] = images[mirrored].flip(-1)
        return images, torch.from_numpy(self._labels[rows])


def loader(
    split: Split, batch_size: int, *, whole_batches: bool = False, workers: int = 0
) -> Callable[[], int]:
    """A step of PyTorch's DataLoader: takes a shuffled batch, returns its number of images.

    ``whole_batches`` takes a batch in one piece, and not image by image. ``workers`` is the number
    of processes that make batches; 0 is this one.

    Raises:
      ImportError: without PyTorch.
    """
    require("PyTorch", "torch")
    from torch.utils.data import DataLoader

    batches = DataLoader(
        _Batches(split) if whole_batches else _Faces(split),
        batch_size,
        shuffle=True,
        collate_fn=_as_it_is if whole_batches else None,
        num_workers=workers,
        persistent_workers=workers > 0,
        # A process that has started TensorFlow's threads must not be forked.
        multiprocessing_context="spawn" if workers else None,
    )
    endless = itertools.chain.from_iterable(itertools.repeat(batches))
    return lambda: len(next(endless)[1])


def _as_it_is(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return batch


def network(weights: Sequence[np.ndarray]) -> torch.nn.Module:
    """The network: float ``[B, 1, 48, 48]`` -> logits ``[B, 7]``, with weights in Keras' order."""
    import torch
    from torch import nn

    layers, remaining = [], iter(weights)
    flatten_at = len(notebook_cnn.CONVOLUTIONS)

    def take(module: nn.Module, *names: str) -> None:
        for name in names:
            getattr(module, name).data.copy_(torch.from_numpy(next(remaining)))

    def normalization(kind: type[nn.Module], channels: int) -> nn.Module:
        layer = kind(channels, eps=_EPSILON, momentum=_MOMENTUM)
        take(layer, "weight", "bias", "running_mean", "running_var")
        return layer

    products = work.products()
    for i, (_, taps, channels, filters) in enumerate(products):
        if i < flatten_at:
            layer = nn.Conv2d(channels, filters, taps, padding=taps // 2)
            layer.weight.data.copy_(torch.from_numpy(next(remaining).transpose(3, 2, 0, 1)))
            take(layer, "bias")
            tail = [normalization(nn.BatchNorm2d, filters), nn.ReLU(), nn.MaxPool2d(2)]
        else:
            layer = nn.Linear(channels, filters)
            kernel = next(remaining)
            if i == flatten_at:
                layers.append(nn.Flatten())
                kernel = channels_first(kernel)
            layer.weight.data.copy_(torch.from_numpy(kernel.T))
            take(layer, "bias")
            last = i == len(products) - 1
            tail = [] if last else [normalization(nn.BatchNorm1d, filters), nn.ReLU()]
        layers += [layer, *tail, *([nn.Dropout(notebook_cnn.DROPOUT_RATE)] if tail else [])]
    return nn.Sequential(*layers)


def channels_first(kernel: np.ndarray) -> np.ndarray:
    """The first fully connected kernel ``[H * W * C, units]`` for inputs flattened as C, H, W."""
    last = work.products()[len(notebook_cnn.CONVOLUTIONS) - 1]
    pooled = last.size // 2
    split = kernel.reshape(pooled, pooled, last.filters, -1)
    return np.ascontiguousarray(split.transpose(2, 0, 1, 3).reshape(kernel.shape))


def train_steps(
    weights: Sequence[np.ndarray],
    train: Split,
    batch_size: int,
    *,
    bfloat16: bool,
    on_gpu: bool,
) -> Callable[[int], int]:
    """Eager training steps in the memory format and with the optimizer that are fastest there.

    The first batch of the images is taken again and again. On a GPU float32 is multiplied in TF32,
    as TensorFlow does by itself; PyTorch by itself does so in convolutions alone. With ``bfloat16``
    the network runs under autocast.

    Returns:
      A function that does so many steps, waits for the device and returns their number of images.

    Raises:
      ImportError: without PyTorch, or for a GPU that it cannot use.
    """
    device = _device(on_gpu)
    import torch

    # As our own loop does.
    allocator.retain_freed_memory()
    if on_gpu:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    net = network(weights).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=_LEARNING_RATE, eps=1e-7, fused=True)
    images, labels = (torch.from_numpy(np.array(part[:batch_size])) for part in train)

    def step() -> torch.Tensor:
        x = images.permute(0, 3, 1, 2).to(device, torch.float32)
        x = x.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            logits = net(x)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels.long().to(device))
        loss.backward()
        optimizer.step()
        return loss

    def take(count: int) -> int:
        for _ in range(count):
            loss = step()
        loss.item()
        return count * len(labels)

    return take


def inference(
    weights: Sequence[np.ndarray], images: np.ndarray, *, on_gpu: bool = False
) -> Callable[[], np.ndarray]:
    """A call in evaluation mode on uint8 ``[B, 48, 48, 1]``: probabilities ``[B, 7]``.

    Raises:
      ImportError: without PyTorch, or for a GPU that it cannot use.
    """
    device = _device(on_gpu)
    import torch

    net = network(weights).to(device, memory_format=torch.channels_last).eval()
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32)).to(device)
    x = x.contiguous(memory_format=torch.channels_last)

    def call() -> np.ndarray:
        with torch.inference_mode():
            return torch.softmax(net(x), dim=1).cpu().numpy()

    return call


def _device(on_gpu: bool) -> str:
    """The name of the device; raises ImportError without PyTorch, or for a GPU without CUDA."""
    require("PyTorch", "torch")
    import torch

    if on_gpu and not torch.cuda.is_available():
        raise ImportError("this PyTorch has no CUDA")
    return "cuda" if on_gpu else "cpu"


def require(name: str, *modules: str) -> None:
    """Raises ImportError, in words for a table's row, where one of the modules is missing."""
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"it needs {name}; pip install '.[bench]'") from error
