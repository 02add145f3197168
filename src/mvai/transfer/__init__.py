"""Transfer (the paper's module G): a mesh sequence and a character make an animation.

A new method is one new file and one line in `METHODS`.
"""

from __future__ import annotations

from typing import Protocol

from mvai.types import Animation, MeshSequence


class Driver(Protocol):
    """A character that has been made ready; what it holds can be kept between runs."""

    def __call__(self, sequence: MeshSequence) -> Animation: ...


METHODS = {"rig": "mvai.transfer.rig:RigTransfer"}
"""Name of each method and where its configuration stands (imported when chosen)."""
