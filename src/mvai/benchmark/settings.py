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
        for name, least in (("train", 0), ("validation", 0), ("test", 0), ("hard", 0),
                            ("frames", 1), ("seed", 0)):  # fmt: skip
            if (value := getattr(self, name)) < least:
                raise MvaiError(f"{name} {value}: this cannot be less than {least}; give another.")
        if not any((self.train, self.validation, self.test, self.hard)):
            raise MvaiError("No clips are asked for; give train, validation, test or hard.")
        if not 0 < self.rate < float("inf"):
            raise MvaiError(f"rate {self.rate:g}: this is no frame rate; give frames a second.")
