"""Where a process stands among the hosts of TF_CONFIG."""

import json

import pytest

from fer_pipeline.devices.cluster import WorkerInfo, worker_info
from fer_pipeline.errors import UserError

HOSTS = ["10.0.0.1:20000", "10.0.0.2:20000"]


def config(cluster, kind, index):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


@pytest.mark.parametrize("strategy", ["auto", "one_device", "mirrored"])
def test_without_tf_config_a_process_is_alone(strategy):
    assert worker_info(strategy, {}) == WorkerInfo(0, 1)
    assert worker_info(strategy, {}).chief


def test_a_worker_is_numbered_and_the_first_is_the_chief():
    assert worker_info("auto", config({"worker": HOSTS}, "worker", 0)) == WorkerInfo(
        0, 2, tuple(HOSTS)
    )
    second = worker_info("multi_worker", config({"worker": HOSTS}, "worker", 1))
    assert second == WorkerInfo(1, 2, tuple(HOSTS))
    assert not second.chief


def test_a_task_called_chief_comes_before_the_workers():
    cluster = {"chief": HOSTS[:1], "worker": HOSTS[1:]}
    assert worker_info("auto", config(cluster, "chief", 0)) == WorkerInfo(0, 2, tuple(HOSTS))
    assert worker_info("auto", config(cluster, "worker", 0)) == WorkerInfo(1, 2, tuple(HOSTS))


def test_one_device_does_not_look_at_tf_config():
    assert worker_info("one_device", {"TF_CONFIG": "nonsense"}) == WorkerInfo(0, 1)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "--strategy=multi_worker: set TF_CONFIG"),
        ({"TF_CONFIG": "{"}, "TF_CONFIG: expected"),
        ({"TF_CONFIG": "[]"}, "TF_CONFIG: expected"),
        ({"TF_CONFIG": '{"cluster": {}}'}, "TF_CONFIG: expected"),
        (config({"worker": [HOSTS[0], "10.0.0.2:99999"]}, "worker", 0), "TF_CONFIG: expected"),
        (config({"worker": [HOSTS[0], "ho st:20000"]}, "worker", 0), "TF_CONFIG: expected"),
        (config({"worker": HOSTS}, "worker", 2), "task worker 2 is not among"),
        (config({"worker": HOSTS, "ps": HOSTS}, "ps", 0), "task ps 0 is not among"),
    ],
)
def test_a_tf_config_that_does_not_work_is_one_line(environ, said):
    with pytest.raises(UserError, match=said):
        worker_info("multi_worker", environ)
