"""What can go wrong with a run, each for somebody to read and act on."""

from __future__ import annotations


class TrainingError(Exception):
    """The run cannot begin, or cannot go on."""


class WrongUse(TrainingError):
    """What was asked for makes no run."""


class DataError(TrainingError):
    """A training file cannot be used. The message begins with the file and the line."""


class NoState(TrainingError):
    """There is no saved state to go on from."""


class Diverged(TrainingError):
    """The loss or a gradient is no number any more. The last saved state is from before that."""
