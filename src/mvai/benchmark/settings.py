"""What a benchmark holds. Loads nothing heavy: the fields are options of the command line."""

from __future__ import annotations

from dataclasses import dataclass

from mvai.types import MvaiError


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is drawn."""

    train: int = 1000
    """Clips to train on."""
    validation: int = 60
    """Clips to choose settings on."""
    test: int = 100
    """Clips to measure on."""
    hard: int = 60
    """Clips of the test people that are hard to see: cut off, hidden, blurred, small."""
    close: int = 60
    """Clips of the validation people seen only down to the chest, waist, thighs or knees."""
    still: int = 60
    """Clips of the validation people who stand or sit."""
    tumbling: int = 60
    """Clips of the validation people who lie, crawl, roll over or stand on their hands."""
    frames: int = 32
    """Frames of each clip."""
    rate: float = 25.0
    """Frames per second."""
    seed: int = 0
    """Of the random numbers that choose what is drawn."""

    def check(self) -> None:
        """See that there can be such a benchmark.

        Raises:
            MvaiError: a number is too small.
        """
        counts = ("train", "validation", "test", "hard", "close", "still", "tumbling")
        for name, least in (*((n, 0) for n in counts), ("frames", 1), ("seed", 0)):
            if (value := getattr(self, name)) < least:
                raise MvaiError(f"{name} {value}: this cannot be less than {least}; give another.")
        if not any(getattr(self, name) for name in counts):
            raise MvaiError(f"No clips are asked for; give one of {', '.join(counts)}.")
        if not 0 < self.rate < float("inf"):
            raise MvaiError(f"rate {self.rate:g}: this is no frame rate; give frames a second.")
