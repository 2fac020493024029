"""How long rounds last, and what they pay for, by a clock that is not real."""

import threading
import time

import pytest

from fer_pipeline.throughput import rounds
from fer_pipeline.throughput.cases import Timing


class Clock:
    """A clock that stands still until it is told otherwise."""

    now = 0.0

    def __call__(self):
        return self.now


class Device:
    """One whose steps take so many seconds, and whose calls are noted."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.calls = []

    def take(self, count):
        self.calls.append(count)
        return Timing(64 * count, self.seconds * count)


@pytest.mark.parametrize("seconds", [0.0005, 0.003, 0.4, 2.5])
def test_a_round_of_steps_lasts_a_second_whatever_a_step_takes(seconds):
    device = Device(seconds)
    run = rounds.lasting(device.take, 6, 1.0)
    # What is compiled is compiled before.
    assert device.calls == [1]
    for number in range(4):
        device.calls.clear()
        images, passed = run()
        assert passed >= 1.0
        assert images == 64 * sum(device.calls)
        assert sum(device.calls) >= 6
        assert passed <= max(1.2, 6 * seconds + 0.2)
        # Once it is known how long a step takes, a round is one call.
        assert number == 0 or len(device.calls) == 1


def test_a_round_follows_a_device_that_changes_its_speed():
    device = Device(0.01)
    run = rounds.lasting(device.take, 1, 1.0)
    run()
    device.seconds = 0.001
    assert run().seconds >= 1.0
    device.seconds = 0.1
    run()
    assert 1.0 <= run().seconds <= 1.2


def test_a_round_pays_for_all_that_it_delivers():
    clock, ready = Clock(), 8

    def step():
        nonlocal ready
        # What was read ahead between two turns costs next to nothing, anything else a tenth.
        clock.now += 0.01 if ready else 0.1
        ready = max(ready - 1, 0)
        return 64

    run = rounds.for_seconds(step, 1.0, clock)
    images, seconds = run()
    assert seconds == pytest.approx(1.0, abs=0.11)
    assert images / seconds == pytest.approx(640)


def test_a_round_has_a_step_at_least():
    clock = Clock()

    def step():
        clock.now += 0.4
        return 64

    assert rounds.for_seconds(step, 1.0, clock)() == (3 * 64, pytest.approx(1.2))
    assert rounds.for_seconds(step, 0.0, clock)() == (64, pytest.approx(0.4))
    assert rounds.timed(step, clock)() == (64, pytest.approx(0.4))


def test_fit_is_timed_without_its_start():
    clock = Clock()

    class Model:
        """Whose fit takes 136 ms before its first step, a second for that and 0.1 for others."""

        def fit(self, x, epochs, verbose, callbacks):
            assert (epochs, verbose) == (1, 0)
            [callback] = callbacks
            clock.now += 0.136
            for step in range(x):
                clock.now += 0.1 if step else 1.0
                callback.on_train_batch_end(step, {"loss": 0.5})
            clock.now += 5.0

    take = rounds.timed_fit(Model(), lambda batches: {"x": batches}, 64, clock)
    assert take(3) == (3 * 64, pytest.approx(0.3))
    assert take(1) == (64, pytest.approx(0.1))


def test_a_turn_begins_when_what_others_started_has_ended():
    done = []

    def work():
        end = time.thread_time() + 0.1
        while time.thread_time() < end:
            pass
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    rounds.settle()
    assert done
    thread.join()
