"""Hosts that wait for one another, each a process or a port on loopback."""

import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fer_pipeline.devices import rendezvous
from fer_pipeline.devices.cluster import WorkerInfo
from fer_pipeline.errors import UserError


def free_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def wait(worker, hosts, *, minutes=1.0, log=str):
    rendezvous.wait_for_workers(
        WorkerInfo(worker, len(hosts), tuple(hosts)), minutes=minutes, log=log
    )


def test_a_host_that_never_comes_is_named_with_the_way_out(capsys):
    hosts = [free_address(), free_address()]
    for worker, missing in ((0, hosts[1]), (1, hosts[0])):
        with pytest.raises(UserError, match=f"TF_CONFIG: {missing} has not come.*--join_minutes"):
            wait(worker, hosts, minutes=1e-9, log=print)
        said = capsys.readouterr().out
        assert f"waiting up to 1e-09 minutes for {missing} (from TF_CONFIG)" in said
        assert "--strategy=one_device" in said
    # Their ports are free again.
    for address in hosts:
        socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))).close()


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen at port {port}"):
            wait(0, [f"127.0.0.1:{port}", free_address()])


def call(address, text):
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.sendall(text)
    return connection


def test_the_chief_lets_all_go_once_all_are_there():
    """Strangers, and a worker that has gone again, do not count."""
    hosts = [free_address() for _ in range(3)]
    started = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        chief = pool.submit(wait, 0, hosts, log=lambda line: started.set())
        started.wait(60)
        # The port is open a moment after the line is said.
        while not chief.done():
            with contextlib.suppress(ConnectionRefusedError):
                call(hosts[0], b"GET / HTTP/1.1\r\n\r\n").close()
                break
        call(hosts[0], b"fer_pipeline worker 2\n").close()
        call(hosts[0], b"fer_pipeline worker 9\n").close()
        with call(hosts[0], b"fer_pipeline worker 0\n") as impostor:
            # Those before it have had their turn by now.
            assert impostor.recv(100) == b"unknown\n"
        first = pool.submit(wait, 1, hosts)
        assert not chief.done()
        assert not first.done()
        pool.submit(wait, 2, hosts).result(60)
        first.result(60)
        chief.result(60)


def test_every_host_names_the_one_that_is_missing():
    hosts = [free_address() for _ in range(3)]
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(wait, worker, hosts, minutes=0.02) for worker in (0, 1)]
        for one in waiting:
            with pytest.raises(UserError, match=f"TF_CONFIG: {hosts[2]} has not come"):
                one.result(60)


def test_a_worker_started_twice_or_of_another_cluster_is_told_so():
    hosts = [free_address() for _ in range(3)]
    with ThreadPoolExecutor(4) as pool:
        chief = pool.submit(wait, 0, hosts)
        first = pool.submit(wait, 1, hosts)
        with pytest.raises(UserError, match=f"{hosts[0]} has no worker 3; give every host"):
            wait(3, [*hosts, free_address()])
        # Whichever of the two comes first is told that there is another.
        second = pool.submit(wait, 1, hosts)
        done, _ = concurrent.futures.wait([first, second], return_when="FIRST_COMPLETED")
        with pytest.raises(UserError, match=r"has another worker 1|cannot listen at port"):
            done.pop().result()
        pool.submit(wait, 2, hosts).result(60)
        chief.result(60)


def test_a_worker_is_not_taken_in_by_another_program_at_the_chiefs_address():
    """Nor by TensorFlow's server of a training that is still ending."""
    hosts = [free_address(), free_address()]
    port = int(hosts[0].rpartition(":")[2])
    with ThreadPoolExecutor(2) as pool:
        with socket.create_server(("127.0.0.1", port)) as other:
            worker = pool.submit(wait, 1, hosts)
            connection, _ = other.accept()
            connection.sendall(b"\0\0\x18")
            connection.close()
            connection, _ = other.accept()
            connection.close()
            assert not worker.done()
        wait(0, hosts)
        worker.result(60)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_waiting(tmp_path, number, status):
    """A plain training in a shell that still has the TF_CONFIG of yesterday's job."""
    hosts = [free_address(), free_address()]
    cluster = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": 0}}
    process = subprocess.Popen(
        [sys.executable, "-m", "fer_pipeline.train", "--epochs=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"TF_CONFIG": json.dumps(cluster)},
    )
    line = process.stdout.readline()
    assert f"waiting up to 10 minutes for {hosts[1]} (from TF_CONFIG)" in line
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert len(errors.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def run_limited(minutes, number=None, *, before="SIG_DFL"):
    """How a process ends that sends itself a signal inside the block, or waits for the clock."""
    script = (
        "import os, signal, sys; from fer_pipeline.devices import rendezvous\n"
        f"signal.signal(signal.SIGINT, signal.{before})\n"
        f"with rendezvous.limited({minutes}):\n"
        f"    {f'os.kill(os.getpid(), {int(number)})' if number else 'signal.pause()'}\n"
        "sys.exit(7)\n"
    )
    return subprocess.run([sys.executable, "-c", script], check=False).returncode


def test_inside_tensorflows_own_waiting_signals_and_the_clock_end_the_process():
    assert run_limited(1e-4) == -signal.SIGALRM
    for number in (signal.SIGINT, signal.SIGTERM):
        assert run_limited(10, number) == -number
    # As in a shell's background.
    assert run_limited(10, signal.SIGINT, before="SIG_IGN") == 7


def test_handlers_come_back_whoever_took_them():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with rendezvous.limited(1.0):
            # As TensorFlow's preemption notifier does.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
