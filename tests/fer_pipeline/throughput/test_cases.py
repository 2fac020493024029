"""How cases are run, timed and shown."""

import contextlib
import json

import pytest

from fer_pipeline import child_processes
from fer_pipeline.child_processes import ChildError
from fer_pipeline.throughput import cases, input_cases, processes
from fer_pipeline.throughput.cases import Case, Column, Table, Timing


class Contest:
    """Cases that say how long they take, and whose turns are noted."""

    def __init__(self):
        self.turns = []

    def case(self, name, images, seconds, **facts):
        """One that takes the next of ``seconds`` at each of its turns."""
        remaining = iter(seconds)

        def run():
            self.turns.append(name)
            return Timing(images, next(remaining))

        return Case(name, lambda: run, facts)


def quick():
    return lambda: Timing(1, 1.0)


def missing():
    raise ImportError("it needs a thing; pip install thing")


def test_cases_warm_up_and_then_alternate():
    contest = Contest()
    entrants = [
        contest.case("slow", 10, [100, 1, 2, 5]),
        Case("absent", missing),
        contest.case("fast", 60, [100, 1, 3, 2], kind="ours"),
    ]
    slow, absent, fast = cases.measure_rates(entrants, 3, baseline="slow", opener=cases.in_process)
    assert contest.turns == ["slow", "fast", "slow", "fast", "fast", "slow", "slow", "fast"]
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
        "note": "not measured: it needs a thing; pip install thing",
        "images_per_second": None,
        "min": None,
        "max": None,
        "rounds": [],
        "ratio": None,
    }
    assert (fast["rounds"], fast["ratio"], fast["kind"]) == ([60, 20, 30], 6.0, "ours")


def test_where_there_is_no_room_one_follows_the_other():
    contest = Contest()
    entrants = [contest.case("a", 1, [1, 1, 1]), contest.case("b", 1, [1, 1, 1])]
    cases.measure_rates(entrants, 2, baseline="a", opener=cases.in_process, together=False)
    assert contest.turns == ["a", "a", "a", "b", "b", "b"]


def test_without_a_baseline_there_are_no_ratios():
    contest = Contest()
    options = {"baseline": "absent", "opener": cases.in_process}
    [row] = cases.measure_rates([contest.case("a", 1, [1, 1])], 1, **options)
    assert row["images_per_second"] == 1.0
    assert row["ratio"] is None
    [row] = cases.measure_latencies([contest.case("a", 1, [1] * 3)], 1, 1, **options)
    assert row["ratio"] is None


def test_latencies_are_percentiles_of_calls_after_the_first_ones():
    contest = Contest()
    calls = [9.0, 9.0, 9.0, *(i / 1000 for i in range(1, 5))]
    entrants = [
        contest.case("a", 2, calls),
        Case("absent", missing),
        contest.case("b", 2, [0.005] * 7),
    ]
    first, absent, second = cases.measure_latencies(
        entrants, 2, 2, baseline="a", opener=cases.in_process
    )
    assert contest.turns[:2] == ["a", "b"]
    assert contest.turns[2:] == ["a"] * 2 + ["b"] * 2 + ["a"] * 2 + ["b"] * 4 + ["a"] * 2
    # Of 1, 2, 3 and 4 ms, by linear interpolation.
    assert first["p50_ms"] == pytest.approx(2.5)
    assert first["p90_ms"] == pytest.approx(3.7)
    assert first["p99_ms"] == pytest.approx(3.97)
    assert first["images_per_second"] == pytest.approx(800)
    assert second["ratio"] == pytest.approx(2.0)
    assert absent["p50_ms"] is absent["ratio"] is absent["images_per_second"] is None


def test_cases_on_a_gpu_are_alone_with_it():
    open_now, seen = set(), []

    @contextlib.contextmanager
    def opener(case):
        open_now.add(case.name)

        def turn(calls):
            seen.append((case.name, frozenset(open_now)))
            return [Timing(1, 1.0)] * calls

        yield turn
        open_now.remove(case.name)

    names = ["gpu a", "b", "gpu c", "d"]
    entrants = [Case(name, quick, gpu=name.startswith("gpu")) for name in names]
    rows = cases.measure_rates(entrants, 2, baseline="b", opener=opener)
    assert [row["name"] for row in rows] == names
    assert all(len(row["rounds"]) == 2 for row in rows)
    beside = dict(seen)
    assert beside == {"gpu a": {"gpu a"}, "gpu c": {"gpu c"}, "b": {"b", "d"}, "d": {"b", "d"}}


def test_a_table_is_aligned_and_shows_what_is_missing():
    columns = (Column("images/s", "rate"), Column("ratio", "ratio", "{:,.2f}x"))
    rows = [
        {"name": "slow", "note": "", "rate": 5.0, "ratio": 1.0},
        {"name": "absent", "note": "it needs a thing", "rate": None},
        {"name": "fast", "note": "a note", "rate": 3000.0, "ratio": 600.0, "rounds": [3000.0]},
    ]
    table = Table("batch 64", columns, rows)
    assert cases.format_table(table).splitlines() == [
        "batch 64",
        "        images/s    ratio",
        "slow           5    1.00x",
        "absent         -        -  it needs a thing",
        "fast       3,000  600.00x  a note",
    ]
    assert json.loads(json.dumps(table.as_json())) == {"title": "batch 64", "rows": rows}


def test_a_case_runs_in_a_process_of_its_own(train, tmp_path):
    folder = input_cases.class_folders(train, tmp_path)
    arguments = {"folder": str(folder), "batch_size": 32, "seconds": 0.0}
    gather = input_cases.cases(**arguments)[-1]
    opener = processes.opener("input_cases", arguments, tmp_path / "logs")
    with opener(gather) as turn:
        first, second = turn(2)
    # An epoch a call.
    assert first.images == second.images == input_cases.EPOCH_IMAGES
    assert first.seconds > 0


def test_a_process_that_fails_says_why(tmp_path):
    opener = processes.opener("input_cases", {"colour": 1}, tmp_path / "logs")
    with (
        pytest.raises(ChildError, match="unexpected keyword argument 'colour'"),
        opener(Case("a", missing)) as turn,
    ):
        turn(1)


def test_a_process_passes_on_what_its_case_lacks(train, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ImportError('none here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    folder = input_cases.class_folders(train, tmp_path)
    arguments = {"folder": str(folder), "batch_size": 1, "seconds": 0.0}
    opener = processes.opener("input_cases", arguments, tmp_path / "logs")
    loader = Case("PyTorch DataLoader", missing)
    with opener(loader) as turn, pytest.raises(ImportError, match="it needs PyTorch"):
        turn(1)


def test_a_process_that_fails_costs_its_own_row_alone(tmp_path):
    died = Case("a", quick)
    opener = processes.opener("input_cases", {"colour": 1}, tmp_path / "logs")

    @contextlib.contextmanager
    def opened(case):
        if case is died:
            with opener(case) as turn:
                yield turn
        else:
            with cases.in_process(case) as turn:
                yield turn

    row, other = cases.measure_rates([died, Case("b", quick)], 2, baseline="b", opener=opened)
    assert row["images_per_second"] is None
    assert row["note"].startswith("not measured: ended with status 1: TypeError")
    assert len(other["rounds"]) == 2


def test_a_case_that_breaks_off_takes_no_further_turns():
    turns = iter([Timing(1, 1.0)] * 2)

    def run():
        try:
            return next(turns)
        except StopIteration:
            raise ChildError("crashed with SIGKILL") from None

    entrants = [Case("a", lambda: run), Case("b", quick)]
    broken, whole = cases.measure_rates(entrants, 3, baseline="b", opener=cases.in_process)
    assert len(broken["rounds"]) == 1
    assert broken["note"] == "not measured: crashed with SIGKILL"
    assert len(whole["rounds"]) == 3


@pytest.mark.parametrize("gpu", [False, True])
def test_a_process_sees_a_gpu_only_where_its_case_computes_on_one(gpu, tmp_path, monkeypatch):
    names = "CUDA_VISIBLE_DEVICES", "TF_FORCE_GPU_ALLOW_GROWTH"
    seen = f"' '.join(os.environ.get(name, '') for name in {names})"
    tell = f"import json, os; print(json.dumps({{'error': {seen}}}))"
    (tmp_path / "tell.py").write_text(tell)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(processes, "__name__", "tell")
    opener = processes.opener("input_cases", {}, tmp_path / "logs")
    # The module says what it sees in place of why it cannot run.
    with opener(Case("a", quick, gpu=gpu)) as turn, pytest.raises(ImportError) as told:
        turn(1)
    assert str(told.value) == f"{'0' if gpu else '-1'} true"
    # Whatever only exports, or feeds.
    assert json.loads(child_processes.run("tell")) == {"error": "-1 true"}
