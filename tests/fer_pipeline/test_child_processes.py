"""Processes that run to their end or answer requests, and what is said where they do not."""

import signal

import pytest

from fer_pipeline import child_processes
from fer_pipeline.child_processes import ChildError


def module(tmp_path, monkeypatch, code):
    """The name of a module with this code."""
    (tmp_path / "child.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "child"


def test_a_process_that_ends_gives_what_it_printed(tmp_path, monkeypatch):
    name = module(tmp_path, monkeypatch, "import sys; print(*sys.argv[1:])")
    assert child_processes.run(name, "a", "b") == "a b\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit('the disk\\nis full')", "ended with status 1: is full"),
        ("import os; os.kill(os.getpid(), 9)", f"crashed with {signal.SIGKILL.name}"),
        ("import signal; signal.alarm(60); signal.pause()", "did not end within 0 s"),
    ],
)
def test_a_process_that_fails_says_how(tmp_path, monkeypatch, code, said):
    # Long enough for a process that ends, and for one that does not end too long by far.
    seconds = 0.2 if "pause" in code else 60
    with pytest.raises(ChildError) as caught:
        child_processes.run(module(tmp_path, monkeypatch, code), seconds=seconds)
    assert str(caught.value) == said


def test_a_worker_answers_requests_until_it_refuses(tmp_path, monkeypatch):
    code = """
import json, sys
print("null", flush=True)
for line in sys.stdin:
    print(line.strip() if "1" in line else json.dumps({"error": "no"}), flush=True)
"""
    command = child_processes.command(module(tmp_path, monkeypatch, code))
    with child_processes.worker(command, tmp_path / "log") as ask:
        assert ask() is None
        assert ask([1, "ä"]) == [1, "ä"]
        with pytest.raises(ChildError, match="no") as caught:
            ask(2)
    assert caught.value.refused


def test_the_last_line_of_a_log_of_its_own_tells_why_a_worker_ended(tmp_path, monkeypatch):
    code = "import sys; sys.exit('why')"
    command = child_processes.command(module(tmp_path, monkeypatch, code))
    for shared, said in ((False, "ended with status 1: why"), (True, "ended with status 1")):
        with child_processes.worker(command, tmp_path / "log", shared_log=shared) as ask:
            with pytest.raises(ChildError) as caught:
                ask()
            assert str(caught.value) == said
            assert not caught.value.refused
    assert (tmp_path / "log").read_text() == "why\nwhy\n"
