"""Results in order, from a stream of any length and speed."""

import itertools
import threading

import pytest

from fer_pipeline.inference import streaming


def in_order(items, work=list, *, threads=3, size=8):
    return streaming.in_order(items, work, threads=threads, weight=lambda _: 1 / size)


def test_results_are_in_the_items_order():
    turns = [threading.Event() for _ in range(40)]

    def work(batch):
        # An item waits for the next one, which is worked on in another thread, every second time.
        for i in batch:
            if i % 2:
                turns[i - 1].set()
            else:
                turns[i].wait(60)
        return [i]

    parts = list(streaming.in_order(range(40), work, threads=2, weight=lambda _: 1))
    assert parts == [[i] for i in range(40)]


def test_every_item_is_worked_on_once_in_batches_of_limited_weight():
    parts = list(in_order(range(1000)))
    assert list(itertools.chain(*parts)) == list(range(1000))
    assert max(map(len, parts)) <= 8
    # An item that is too heavy for any batch goes alone.
    heavy = list(streaming.in_order([3, 3, 3], list, threads=1, weight=lambda item: item))
    assert heavy == [[3], [3], [3]]


def test_a_result_does_not_wait_for_the_streams_next_item():
    received = threading.Event()

    def items():
        yield 1
        assert received.wait(60)
        yield 2

    results = in_order(items())
    assert next(results) == [1]
    received.set()
    assert list(results) == [[2]]


def test_what_came_before_an_error_of_the_stream_is_answered():
    def items():
        yield from range(100)
        raise ZeroDivisionError

    received = []
    with pytest.raises(ZeroDivisionError):
        received.extend(in_order(items(), threads=1, size=1))
    assert received == [[i] for i in range(100)]


@pytest.mark.parametrize("where", ["stream", "work"])
def test_an_error_ends_it(where):
    def items():
        yield from range(10)
        if where == "stream":
            raise ZeroDivisionError

    def work(batch):
        return [1 / (9 - i) for i in batch] if where == "work" else batch

    with pytest.raises(ZeroDivisionError):
        list(in_order(items(), work))


def test_an_endless_stream_is_taken_only_so_far(monkeypatch):
    monkeypatch.setattr(streaming, "_AHEAD", 20)
    taken = []
    results = in_order(taken.append(i) or i for i in itertools.count())
    for _ in range(5):
        next(results)
    results.close()
    # Twenty wait, six batches of up to eight are worked on, one item is in hand, one more is let
    # through for the stream's thread to end.
    assert len(taken) <= 5 * 8 + 20 + 6 * 8 + 2
    feeders = [thread for thread in threading.enumerate() if thread.name == "sources"]
    for thread in feeders:
        thread.join(60)
        assert not thread.is_alive()


def test_nobody_waits_for_a_batch_whose_result_nobody_wants():
    fed, started, go = threading.Event(), threading.Event(), threading.Event()
    worked_on = []

    def items():
        yield from range(9)
        fed.set()

    def work(batch):
        for i in batch:
            worked_on.append(i)
            if i:
                started.set()
            assert (go if i else fed).wait(60)
        return i

    # The first item is a batch alone, the next four are one.
    results = streaming.in_order(items(), work, threads=1, weight=lambda i: 1 / 4 if i else 1)
    assert next(results) == 0
    assert started.wait(60)
    results.close()
    go.set()
    for thread in threading.enumerate():
        if thread.name.startswith("faces"):
            thread.join(60)
            assert not thread.is_alive()
    # Of the four, only the one that was under way.
    assert worked_on == [0, 1]
