"""No smoothing."""

from __future__ import annotations

from dataclasses import dataclass

from mvai.types import MeshSequence


@dataclass(frozen=True)
class NoSmoothing:
    """Leaves the sequence as it is."""

    def smooth(self, sequence: MeshSequence) -> MeshSequence:
        """See `mvai.smooth.Smoother`."""
        return sequence
