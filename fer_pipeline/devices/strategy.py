"""Which devices a training runs on, and what its processes tell one another."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import gpus
from fer_pipeline.devices import rendezvous
from fer_pipeline.devices.cluster import Shard, WorkerInfo, worker_info
from fer_pipeline.errors import UserError
from fer_pipeline.terminal import interruption

if TYPE_CHECKING:
    import tensorflow as tf

#: Images of a step that a GPU needs for itself before several are faster than one. An estimate:
#: below it a step of this network is so short that adding up the gradients takes most of it.
_IMAGES_PER_GPU = 256

_LOST = (
    "lost another worker; start the same command on all hosts again to continue from the last "
    "checkpoint"
)

#: Words in the messages of errors about other workers, whatever their type.
_OF_PEERS = re.compile(r"collective|coordination|heartbeat|peer|socket closed|connection", re.I)


class Devices(NamedTuple):
    """A training's devices.

    Attributes:
      strategy: the ``tf.distribute`` strategy; the default one for a single device.
      worker: this process.
    """

    strategy: tf.distribute.Strategy
    worker: WorkerInfo

    @property
    def replicas(self) -> int:
        """Copies of the network, over all hosts."""
        return self.strategy.num_replicas_in_sync

    @property
    def shard(self) -> Shard:
        """The part of every batch that this process gathers."""
        count = self.replicas // self.worker.count
        return Shard(self.worker.index * count, count, self.replicas)


def join(
    strategy: str,
    *,
    batch_size: int | None = None,
    join_minutes: float = 10.0,
    log: Callable[[str], None] = print,
) -> Devices:
    """Makes the strategy; with several hosts, waits for all of them.

    It has to come before anything else that TensorFlow does in the process.

    Args:
      strategy: as in ``config.Config``. ``auto`` is ``multi_worker`` where ``TF_CONFIG`` is
        set, ``mirrored`` where there are several GPUs and enough images for each, else
        ``one_device``.
      batch_size: images of a step, over all devices; None is enough for any number of them.
      join_minutes: how long to wait for the other hosts.
      log: takes a line of text about what is waited for or chosen.

    Raises:
      UserError: ``TF_CONFIG`` is not understood, or a host cannot be reached.
    """
    import tensorflow as tf

    gpus.allow_growth()
    worker = worker_info(strategy)
    if worker.count > 1:
        rendezvous.wait_for_workers(worker, minutes=join_minutes, log=log)
        with (
            lost_worker_explained(worker, "cannot reach another worker; start all of them"),
            rendezvous.limited(join_minutes),
        ):
            return Devices(tf.distribute.MultiWorkerMirroredStrategy(), worker)
    count = len(tf.config.list_physical_devices("GPU"))
    if strategy == "mirrored" or (strategy != "one_device" and _share_pays(count, batch_size, log)):
        # Of a CPU there is one, unless somebody has split it into logical devices.
        devices = None if count else [d.name for d in tf.config.list_logical_devices("CPU")]
        return Devices(tf.distribute.MirroredStrategy(devices), worker)
    return Devices(tf.distribute.get_strategy(), worker)


def _share_pays(count: int, batch_size: int | None, log: Callable[[str], None]) -> bool:
    """Whether ``count`` GPUs train a batch faster than one; says so where it leaves some idle."""
    if count < 2:
        return False
    if batch_size is None or batch_size >= count * _IMAGES_PER_GPU:
        return True
    log(
        f"one of {count} GPUs trains: --batch_size={batch_size} is less than {_IMAGES_PER_GPU} "
        "images for each; --strategy=mirrored takes all"
    )
    return False


def training_gpus(devices: Devices) -> list[gpus.Gpu]:
    """The GPUs of this host that train; none where its CPU does."""
    return gpus.visible()[: devices.shard.count]


def batches(devices: Devices, make: Callable[[Shard], tf.data.Dataset]) -> tf.data.Iterator:
    """Iterates over batches spread over the replicas.

    Args:
      devices: of the training.
      make: makes the endless dataset of a shard. (With a finite one the workers would have to
        agree before every batch whether it has ended.)
    """
    return iter(devices.strategy.distribute_datasets_from_function(lambda _: make(devices.shard)))


def any_worker(devices: Devices, flag: bool) -> bool:
    """Whether ``flag`` is true on any worker. All workers have to call it."""
    return flag if devices.worker.count == 1 else bool(_sum(devices, np.array([flag], np.int64))[0])


def raise_on_all_workers(devices: Devices, problem: UserError | None) -> None:
    """Ends all workers if one has a problem, so that none waits for it. All have to call it.

    Raises:
      UserError: the problem of this worker, or a line about another's.
    """
    if not any_worker(devices, problem is not None):
        return
    of_chief = broadcast_from_chief(devices, str(problem or "").encode())
    if problem:
        raise problem
    raise UserError(of_chief.decode() or "another worker has stopped; see what it printed")


@contextlib.contextmanager
def errors_on_all_workers(devices: Devices) -> Iterator[None]:
    """Ends all workers if the block raises UserError on one of them. All have to enter it."""
    problem = None
    try:
        yield
    except UserError as error:
        problem = error
    raise_on_all_workers(devices, problem)


def check_same(devices: Devices, settings: dict[str, Any]) -> None:
    """Checks that all workers have the same ``settings``, which are JSON values.

    Raises:
      UserError: on all workers, if one differs.
    """
    chiefs = json.loads(broadcast_from_chief(devices, json.dumps(settings).encode()))
    different = [name for name, value in settings.items() if chiefs.get(name) != value]
    with errors_on_all_workers(devices):
        if different:
            name = different[0]
            raise UserError(
                f"worker {devices.worker.index}: its {name} is {settings[name]}, the chief's "
                f"{chiefs.get(name)}; start all workers with the same flags and data"
            )


def broadcast_from_chief(devices: Devices, content: bytes | None) -> bytes | None:
    """Returns the chief's ``content`` on every worker. All workers have to call it.

    This way the workers need no shared folder.
    """
    if devices.worker.count == 1:
        return content
    mine = content if devices.worker.chief else None
    header = np.array([mine is not None, len(mine or b"")], np.int64)
    known, size = _sum(devices, header if devices.worker.chief else np.zeros_like(header))
    if not (known and size):
        # TensorFlow's sum of nothing over several hosts ends the process.
        return b"" if known else None
    words = np.zeros(-(-size // 8), np.int64)
    if mine is not None:
        words.view(np.uint8)[:size] = np.frombuffer(mine, np.uint8)
    # Every other host adds zeros to the chief's words, which leaves their bits as they are.
    return _sum(devices, words).tobytes()[:size]


def broadcast_number(devices: Devices, number: float) -> float:
    """Returns the chief's ``number`` on every worker. All workers have to call it."""
    return struct.unpack("d", broadcast_from_chief(devices, struct.pack("d", number)))[0]


def _sum(devices: Devices, values: np.ndarray) -> np.ndarray:
    """Adds the int64 arrays ``[N]`` of all workers."""
    import tensorflow as tf

    def of_replica(context: tf.distribute.ValueContext) -> tf.Tensor:
        first = context.replica_id_in_sync_group % devices.shard.count == 0
        return tf.constant(values if first else np.zeros_like(values))

    parts = devices.strategy.experimental_distribute_values_from_function(of_replica)
    with lost_worker_explained(devices.worker), interruption.ended_at_once():
        return _compiled_sum(devices.strategy)(parts).numpy()


@functools.cache
def _compiled_sum(strategy: tf.distribute.Strategy) -> Callable[[Any], tf.Tensor]:
    import tensorflow as tf

    return tf.function(
        lambda parts: strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None),
        reduce_retracing=True,
    )


@contextlib.contextmanager
def lost_worker_explained(worker: WorkerInfo, what: str = _LOST) -> Iterator[None]:
    """Turns TensorFlow's errors about a lost worker into a UserError."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        gone = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)
        if worker.count == 1 or not (isinstance(error, gone) or _OF_PEERS.search(str(error))):
            raise
        kind = type(error).__name__
        raise UserError(f"worker {worker.index} of {worker.count}: {what} ({kind})") from error
