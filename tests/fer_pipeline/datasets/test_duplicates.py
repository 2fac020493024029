"""Repeated images are counted as one counts them by hand."""

import numpy as np

from fer_pipeline.datasets import duplicates

#: Two a in train and one in test; b in train and test with two labels; two c in test; d once, and
#: once where no split uses it.
KEYS = np.array([ord(c) for c in "aabdabccd"])
SPLIT_OF = np.array([0, 0, 0, 0, 1, 1, 1, 1, -1])
LABELS = np.array([3, 3, 1, 2, 3, 2, 5, 5, 6])


def test_groups_and_what_is_in_training():
    found = duplicates.count(KEYS, LABELS, SPLIT_OF, 2)
    assert (found.groups, found.images, found.conflicting) == (3, 7, 1)
    assert found.within == (2, 2)
    assert found.in_train == (0, 2)


def test_the_greatest_disagreement_comes_first():
    keys = np.array([7, 1, 1, 1, 4, 4, 2, 2, 2])
    labels = np.array([0, 0, 0, 1, 6, 6, 0, 1, 2])
    found = duplicates.conflicts(keys, labels, most=9)
    assert [group.tolist() for group in found] == [[6, 7, 8], [1, 2, 3]]
    assert len(duplicates.conflicts(keys, labels, most=1)) == 1
