"""Numbers follow faces, and probabilities are smoothed as computed by hand."""

import numpy as np

from fer_pipeline.inference.faces.tracking import Tracks, follow

ONES = np.eye(7)


def test_a_number_follows_its_face_when_paths_cross_in_order():
    tracks, numbers = Tracks(), []
    for step in range(12):
        boxes = [(20 * step, 0, 60, 60), (400 - 20 * step, 130, 60, 60)]
        # The order of the answers must not matter.
        order = [0, 1] if step % 2 else [1, 0]
        tracks, now = follow(tracks, [boxes[i] for i in order], ONES[:2], smooth=0)
        numbers.append([now[order.index(i)].number for i in (0, 1)])
    assert numbers == [numbers[0]] * 12
    assert sorted(numbers[0]) == [1, 2]


def test_a_face_that_passes_in_front_of_another_keeps_its_number():
    """Two faces meet on one line. The one behind is not seen for eight looks, in one of which the
    one in front is where it was seen last."""
    tracks, numbers = Tracks(), []
    for step in range(20):
        left, right = (20 * step, 0, 150, 150), (380 - 20 * step, 0, 150, 150)
        found = [right] if 7 <= step <= 14 else [left, right]
        tracks, now = follow(tracks, found, ONES[: len(found)], smooth=0)
        numbers.append(now[-1].number)
    assert set(numbers) == {2}
    assert {track.number for track in tracks.current} == {1, 2}


def test_values_are_smoothed_and_a_short_gap_is_bridged():
    box = (10, 10, 50, 50)
    tracks, [first] = follow(Tracks(), [box], ONES[:1], smooth=0.75)
    np.testing.assert_array_equal(first.probabilities, ONES[0])
    tracks, [second] = follow(tracks, [box], ONES[1:2], smooth=0.75)
    np.testing.assert_allclose(second.probabilities[:2], [0.75, 0.25])
    for _ in range(10):
        tracks, now = follow(tracks, [], ONES[:0], smooth=0.75)
        assert now == []
    tracks, [third] = follow(tracks, [box], ONES[1:2], smooth=0.75)
    assert third.number == 1
    np.testing.assert_allclose(third.probabilities[:2], [0.5625, 0.4375])
    for _ in range(11):
        tracks, _ = follow(tracks, [], ONES[:0], smooth=0.75)
    # Too long: another number, and no memory.
    tracks, [fourth] = follow(tracks, [box], ONES[2:3], smooth=0.75)
    assert fourth.number == 2
    np.testing.assert_array_equal(fourth.probabilities, ONES[2])


def test_a_face_far_away_is_another_one():
    tracks, _ = follow(Tracks(), [(0, 0, 40, 40)], ONES[:1], smooth=0)
    _, now = follow(tracks, [(200, 0, 40, 40), (25, 0, 40, 40)], ONES[:2], smooth=0)
    assert [track.number for track in now] == [2, 1]
