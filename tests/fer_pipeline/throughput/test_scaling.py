"""Growing data: what a measurement returns, and its rows."""

import json

import pytest

from fer_pipeline.throughput import scaling


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_a_measurement_takes_batches_and_counts_memory(cache, monkeypatch):
    monkeypatch.setattr(scaling, "_SECONDS", 0.1)
    found = scaling.measure(cache, 300, 64)
    assert found["data"] == pytest.approx(300 * 48 * 48 / 2**20)
    assert 0 < found["min"] <= found["microseconds"] <= found["max"]
    assert 0 < found["first_seconds"] < 5
    assert 0 <= found["iter_seconds"] < 5
    assert found["idle"] > 0
    assert found["peak"] > 50


def test_rows_are_measured_in_processes_of_their_own(monkeypatch):
    measured = []

    def run(module, arguments):
        assert module == scaling.__name__
        measured.append(json.loads(arguments))
        return '{"microseconds": 1.0}'

    monkeypatch.setattr(scaling.child_processes, "run", run)
    assert len(scaling.sizes(quick=False).rows) == 10
    table = scaling.settings(quick=True)
    assert [row["name"] for row in table.rows] == ["batch 16, all threads", "batch 16, 1 thread"]
    assert [row["microseconds"] for row in table.rows] == [1.0, 1.0]
    assert measured[-1] == {"cache": "memory", "images": 30_000, "batch_size": 16, "threads": 1}


def test_a_measurement_that_fails_says_why():
    row = scaling._row("a row", colour=1)
    assert "not measured: ended with status 1: " in row["note"]
    assert "unexpected keyword argument 'colour'" in row["note"]
    assert "microseconds" not in row
