"""The seven facial expressions, in output order, and the size of a face."""

from __future__ import annotations

#: Class names in the order of the network's outputs: alphabetical, which is the order Keras'
#: ``flow_from_directory`` gives the class folders of FER-2013.
CLASS_NAMES: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")

NUM_CLASSES: int = len(CLASS_NAMES)

#: Height and width of a face in pixels (FER-2013 is 48x48, one grey channel).
IMAGE_SIZE: int = 48
