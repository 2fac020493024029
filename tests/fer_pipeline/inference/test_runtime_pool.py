"""A model in several processes."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from fer_pipeline.inference import runtime_client, runtime_pool

WORKER = """
import json, os, sys
print(json.dumps({"io_spec": os.getpid(), "modules": []}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A path, and a worker that says its process' number."""
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(runtime_client, "_WORKER", tmp_path / "worker.py")
    return tmp_path / "model.tflite"


def processes_of(borrow, barrier):
    def ask(_):
        with borrow() as runtime:
            barrier.wait(60)
            return json.dumps(runtime.io_spec())

    with ThreadPoolExecutor(barrier.parties) as pool:
        return set(pool.map(ask, range(barrier.parties)))


def test_processes_are_started_for_those_who_ask_at_a_time(model):
    with runtime_pool.opened(model, processes=3) as borrow:
        with borrow() as first:
            one = json.dumps(first.io_spec())
        with borrow() as again:
            assert json.dumps(again.io_spec()) == one
        two = processes_of(borrow, Barrier(2))
        assert len(two) == 2
        assert one in two
        # Both are idle now, so that only the third is new.
        assert len(processes_of(borrow, Barrier(3)) - two) == 1


def test_there_are_no_more_processes_than_allowed(model):
    with runtime_pool.opened(model, processes=1) as borrow, ThreadPoolExecutor(3) as pool:

        def ask(_):
            with borrow() as runtime:
                return json.dumps(runtime.io_spec())

        assert len(set(pool.map(ask, range(9)))) == 1
