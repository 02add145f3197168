"""Smooth (the paper's module F): a mesh sequence becomes a steadier one. A method is one file.

Times are in seconds, so that a setting means the same at every frame rate. A method sees nothing
but moving vertices; it works on sequences of any topology.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from mvai.types import MeshSequence, MvaiError


class Smoother(Protocol):
    """Takes the jitter out of a sequence."""

    def smooth(self, sequence: MeshSequence) -> MeshSequence:
        """The same sequence with other vertices; the given one is left as it is."""
        ...


METHODS = {
    "none": "mvai.smooth.none:NoSmoothing",
    "gaussian": "mvai.smooth.gaussian:Gaussian",
    "savgol": "mvai.smooth.savgol:SavitzkyGolay",
    "one-euro": "mvai.smooth.one_euro:OneEuro",
    "mesh2mesh": "mvai.smooth.mesh2mesh:Mesh2Mesh",
    "smoothnet": "mvai.smooth.smoothnet:SmoothNet",
    "adaptive": "mvai.smooth.adaptive:Adaptive",
}
"""Method name to the class that implements it."""


def method(name: str) -> type:
    """The smoother class called `name`.

    Raises:
        MvaiError: there is no such method.
    """
    if name not in METHODS:
        raise MvaiError(f"{name}: no such smoother; choose one of {', '.join(METHODS)}.")
    module, cls = METHODS[name].split(":")
    return getattr(import_module(module), cls)
