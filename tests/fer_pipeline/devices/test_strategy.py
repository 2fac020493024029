"""Two replicas train as one device does, in float64 to rounding; and one compiled by XLA."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fer_pipeline.devices import strategy
from fer_pipeline.devices.cluster import Shard, WorkerInfo
from fer_pipeline.errors import UserError

JOB = Path(__file__).parents[2] / "proofs" / "job.py"

#: Fewer steps: Newton and Schulz multiply rounding by hundreds each time.
TUNED = ("--epochs=1", "--images=58", "--learning_rate=0.012")

#: Over 30 steps in float64 without dropout: what rounding alone may do.
TOLERANCE = 1e-9


def start(folder, name, *arguments, before=(), environ=None):
    """Starts a job, ``before`` it another one; gives the process and the file of the job."""
    out = folder / f"{name}.npz"
    log = open(folder / f"{name}.log", "wb")  # noqa: SIM115
    process = subprocess.Popen(
        [sys.executable, str(JOB), *before, f"--out={out}", *arguments],
        stdout=log,
        stderr=log,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | (environ or {}),
        cwd=folder,
    )
    return process, out


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def results(folder):
    """The same job on one device, two logical ones, and two workers; one update overflows.

    And once on one device in float16, compiled by XLA, which leaves what it compiled in a folder.
    """
    overflow = "--overflow_at=3"
    hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
    jobs = {
        "xla": start(
            folder,
            "xla",
            *(overflow, "--precision=mixed_float16", "--jit_compile"),
            # Below its own folder, whose path may hold spaces, which would end the flag.
            environ={"XLA_FLAGS": "--xla_dump_to=modules"},
        ),
    }
    mirrored = ["--strategy=mirrored", "--logical_devices=2"]
    jobs["mirrored"] = start(folder, "mirrored", overflow, *mirrored)
    jobs["tuned mirrored"] = start(folder, "tuned_mirrored", "--tuned", *TUNED, *mirrored)
    # One process for two jobs, the second with the overflow, which stays. Two mirrored jobs in one
    # process fail: TensorFlow takes the second one's collective operations for the first one's.
    tuned = folder / "tuned_one.npz"
    before = [f"--out={tuned}", "--tuned", *TUNED, "--and"]
    jobs["one"] = start(folder, "one", overflow, before=before)
    for index in range(2):
        task = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
        jobs[f"worker {index}"] = start(
            folder,
            f"worker{index}",
            overflow,
            "--strategy=multi_worker",
            environ={"TF_CONFIG": json.dumps(task)},
        )
    try:
        for name, (process, _) in jobs.items():
            assert process.wait(timeout=300) == 0, f"{name}: see {folder}"
    finally:
        # Workers wait for one another.
        for process, _ in jobs.values():
            process.kill()
    written = {"tuned one": tuned} | {name: out for name, (_, out) in jobs.items()}
    return {name: np.load(out) for name, out in written.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mirrored", "worker 0", "worker 1"])
def test_replicas_train_as_one_device_does(results, name):
    one, several = results["one"], results[name]
    assert len(one["history"]) == 2
    np.testing.assert_allclose(several["history"], one["history"], rtol=0, atol=TOLERANCE)
    for key in (key for key in one.files if key.startswith("w")):
        np.testing.assert_allclose(several[key], one[key], rtol=0, atol=TOLERANCE, err_msg=key)


@pytest.mark.slow
def test_replicas_train_by_the_tuned_recipe_as_one_device_does(results):
    one, mirrored = results["tuned one"], results["tuned mirrored"]
    np.testing.assert_allclose(mirrored["history"], one["history"], atol=TOLERANCE)
    for key in one.files:
        if key.startswith("w"):
            np.testing.assert_allclose(mirrored[key], one[key], atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "mirrored", "xla", "worker 0", "worker 1"])
def test_an_overflow_on_the_last_replica_skips_and_halves_on_all(results, name):
    assert results[name]["scale"] == 2.0**11
    assert results[name]["updates"] == 29


@pytest.mark.slow
def test_xla_compiles_the_whole_batches_alone(results, folder):
    """Of 235 images in batches of 16 the last batch of an epoch has 11."""
    compiled = {path.name.split(".")[0] for path in (folder / "modules").glob("*inference_step*")}
    assert len(compiled) == 1, sorted(compiled)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "mirrored", "worker 0", "worker 1"])
def test_sigterm_is_heard_once_the_hosts_have_met(results, name):
    """TensorFlow's preemption notifier takes the handler when several hosts meet."""
    assert results[name]["sigterms_heard"] == 1


@pytest.mark.slow
def test_a_mistake_on_one_host_ends_all_with_a_line(tmp_path):
    hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
    flags = ["--data=synthetic", "--model=tiny", "--noexport", "--strategy=multi_worker"]
    mistakes = [], ["--exclude=missing.csv"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "fer_pipeline.train", f"--run_dir=run{index}", *flags, *mistake],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"PYTHONPATH": str(JOB.parents[2])}
            | {
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
                )
            },
            cwd=tmp_path,
        )
        for index, mistake in enumerate(mistakes)
    ]
    try:
        said = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [1, 1], said
    assert said[0] == "error: another worker has stopped; see what it printed\n"
    assert said[1].startswith("error: --exclude=missing.csv: No such file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"a", b"12345678", None])
def test_what_the_chief_has_comes_whole_and_nothing_is_not_summed(monkeypatch, content):
    def of_two_hosts(_, values):
        # TensorFlow's own ends the process at a sum of empty arrays.
        assert values.size
        return values

    monkeypatch.setattr(strategy, "_sum", of_two_hosts)
    devices = strategy.join("one_device")._replace(worker=WorkerInfo(0, 2))
    assert strategy.broadcast_from_chief(devices, content) == content


def test_a_single_process_asks_nobody():
    devices = strategy.join("one_device")
    assert devices.replicas == 1
    assert devices.worker == WorkerInfo()
    assert devices.shard == Shard(0, 1, 1)
    assert strategy.any_worker(devices, True)
    assert not strategy.any_worker(devices, False)
    assert strategy.broadcast_from_chief(devices, b"content") == b"content"


def test_one_hosts_refusal_ends_all(monkeypatch):
    devices = strategy.join("one_device")
    with strategy.errors_on_all_workers(devices):
        pass
    with pytest.raises(UserError, match="my own"), strategy.errors_on_all_workers(devices):
        raise UserError("my own")
    # As it is on a host that is well, while the chief is not.
    monkeypatch.setattr(strategy, "any_worker", lambda devices, flag: True)
    monkeypatch.setattr(
        strategy, "broadcast_from_chief", lambda devices, content: b"the chief's disk is full"
    )
    with (
        pytest.raises(UserError, match="the chief's disk is full"),
        strategy.errors_on_all_workers(devices),
    ):
        pass
