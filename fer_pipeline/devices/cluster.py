"""The hosts of a job, and this process among them.

One process drives the devices of one host. Hosts are joined by the environment variable
``TF_CONFIG`` (TensorFlow, "Distributed training with TensorFlow"), the same on all of them but for
``task.index``. Importing this module is free.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from fer_pipeline.errors import UserError


class WorkerInfo(NamedTuple):
    """This process among the workers of its job. Worker 0 is the chief: it alone writes files.

    Attributes:
      index: its number.
      count: how many there are.
      addresses: ``host:port`` of each, by number; empty where there is one.
    """

    index: int = 0
    count: int = 1
    addresses: tuple[str, ...] = ()

    @property
    def chief(self) -> bool:
        """Whether this is the process that writes."""
        return self.index == 0


class Shard(NamedTuple):
    """Which part of every batch a process gathers.

    A batch of ``b`` images is cut into ``replicas`` parts as evenly as can be, part ``r`` being
    positions ``[b * r // replicas, b * (r + 1) // replicas)``. Some are empty where the last batch
    has fewer images than there are replicas.

    Attributes:
      first: the process' first replica.
      count: how many replicas it has.
      replicas: how many there are in all.
    """

    first: int = 0
    count: int = 1
    replicas: int = 1


#: Of a process that is alone.
WHOLE = Shard()


def worker_info(strategy: str, environ: Mapping[str, str] = os.environ) -> WorkerInfo:
    """Reads from ``TF_CONFIG`` where this process stands, without TensorFlow.

    Args:
      strategy: as in ``config.Config``; only ``auto`` and ``multi_worker`` look at ``TF_CONFIG``.
      environ: the environment.

    Raises:
      UserError: ``TF_CONFIG`` is missing for ``multi_worker``, or not understood.
    """
    text = environ.get("TF_CONFIG", "")
    if strategy not in ("auto", "multi_worker") or (strategy == "auto" and not text):
        return WorkerInfo()
    if not text:
        raise UserError("--strategy=multi_worker: set TF_CONFIG; README.md has an example")
    try:
        value = json.loads(text)
        cluster, task = value["cluster"], value["task"]
        hosts = {
            (kind, index): address
            for kind in ("chief", "worker")
            for index, address in enumerate(_addresses(cluster.get(kind, [])))
        }
        task_id = (task["type"], int(task["index"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            'TF_CONFIG: expected {"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
            f'"worker", "index": 0}}}}, found {text[:200]}'
        ) from error
    if task_id not in hosts:
        raise UserError(f"TF_CONFIG: its task {task_id[0]} {task_id[1]} is not among its cluster's")
    if len(hosts) == 1:
        return WorkerInfo()
    return WorkerInfo(list(hosts).index(task_id), len(hosts), tuple(hosts.values()))


def _addresses(value: object) -> list[str]:
    """A list of different ``host:port``; raises ValueError for anything else."""
    addresses = list(value) if isinstance(value, list) else [None]
    for address in addresses:
        if not isinstance(address, str) or not re.fullmatch(r"\S+:\d{1,5}", address):
            raise ValueError(f"{address} is no host:port")
        if not 0 < int(address.rpartition(":")[2]) < 2**16:
            raise ValueError(f"{address} has no port")
    if len(set(addresses)) < len(addresses):
        raise ValueError("an address is there twice")
    return addresses
