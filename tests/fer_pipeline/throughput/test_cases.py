"""How cases are run, timed and shown."""

import json
import threading
import time

from fer_pipeline.throughput import cases
from fer_pipeline.throughput.cases import Case, Column, Table


class Clock:
    """A clock that cases advance by the seconds that they take."""

    def __init__(self):
        self.now = 0.0
        self.turns = []

    def __call__(self):
        return self.now

    def case(self, name, images, seconds, **facts):
        """One that takes the next of ``seconds`` at each of its turns."""
        remaining = iter(seconds)

        def run():
            self.turns.append(name)
            self.now += next(remaining)
            return images

        return Case(name, run, facts=facts)


def test_cases_warm_up_and_then_alternate():
    clock = Clock()
    contest = [
        clock.case("slow", 10, [100, 1, 2, 5]),
        Case("absent", None, "it needs a thing"),
        clock.case("fast", 60, [100, 1, 3, 2], kind="ours"),
    ]
    slow, absent, fast = cases.rates(contest, 3, baseline="slow", clock=clock)
    assert clock.turns == ["slow", "fast", "slow", "fast", "fast", "slow", "slow", "fast"]
    assert slow == {
        "name": "slow",
        "note": "",
        "images_per_second": 5.0,
        "min": 2.0,
        "max": 10.0,
        "rounds": [10.0, 5.0, 2.0],
        "ratio": 1.0,
    }
    assert absent == {
        "name": "absent",
        "note": "it needs a thing",
        "images_per_second": None,
        "min": None,
        "max": None,
        "rounds": [],
        "ratio": None,
    }
    assert (fast["rounds"], fast["ratio"], fast["kind"]) == ([60, 20, 30], 6.0, "ours")


def test_without_a_baseline_there_are_no_ratios():
    clock = Clock()
    [row] = cases.rates([clock.case("a", 1, [1, 1])], 1, baseline="absent", clock=clock)
    assert row["images_per_second"] == 1.0
    assert row["ratio"] is None
    [row] = cases.latencies([clock.case("a", 1, [1, 1])], 1, 1, baseline="absent", clock=clock)
    assert row["ratio"] is None


def test_latencies_are_percentiles_of_calls_after_the_first_turn():
    clock = Clock()
    calls = [9.0, 9.0, *(i / 1000 for i in range(1, 5))]
    contest = [
        clock.case("a", 2, calls),
        Case("absent", None, "why"),
        clock.case("b", 2, [0.005] * 6),
    ]
    first, absent, second = cases.latencies(contest, 2, 2, baseline="a", clock=clock)
    assert clock.turns == ["a"] * 2 + ["b"] * 2 + ["a"] * 2 + ["b"] * 4 + ["a"] * 2
    # Of 1, 2, 3 and 4 ms, by linear interpolation.
    assert abs(first["p50_ms"] - 2.5) < 1e-9
    assert abs(first["p90_ms"] - 3.7) < 1e-9
    assert abs(first["p99_ms"] - 3.97) < 1e-9
    assert abs(first["images_per_second"] - 800) < 1e-6
    assert abs(second["ratio"] - 2.0) < 1e-9
    assert absent["p50_ms"] is absent["ratio"] is absent["images_per_second"] is None


def test_a_round_lasts_as_long_as_asked():
    clock = Clock()
    step = clock.case("", 64, [0.4] * 20).run
    assert cases.for_seconds(step, 1.0, clock)() == 3 * 64
    assert cases.for_seconds(step, 0.0, clock)() == 64


def test_a_missing_package_becomes_a_note():
    def make():
        raise ImportError("it needs a thing; pip install thing")

    case = cases.case_or_note("rival", make, policy="float32")
    assert case.run is None
    assert case.note == "not measured: it needs a thing; pip install thing"
    assert case.facts == {"policy": "float32"}


def test_a_table_is_aligned_and_shows_what_is_missing():
    columns = (Column("images/s", "rate"), Column("ratio", "ratio", "{:,.2f}x"))
    rows = [
        {"name": "slow", "note": "", "rate": 5.0, "ratio": 1.0},
        {"name": "absent", "note": "it needs a thing", "rate": None},
        {"name": "fast", "note": "a note", "rate": 3000.0, "ratio": 600.0, "rounds": [3000.0]},
    ]
    table = Table("batch 64", columns, rows)
    assert cases.text(table).splitlines() == [
        "batch 64",
        "        images/s    ratio",
        "slow           5    1.00x",
        "absent         -        -  it needs a thing",
        "fast       3,000  600.00x  a note",
    ]
    assert json.loads(json.dumps(table.as_json())) == {"title": "batch 64", "rows": rows}


def test_a_turn_begins_when_what_others_started_has_ended():
    done = []

    def work():
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    cases.settle()
    assert done
    thread.join()
