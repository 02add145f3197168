"""Reconstruct (the paper's module R): from key-points to a mesh sequence. A method is one file.

`METHODS` names the methods; each is a frozen dataclass with its settings as fields and one
`reconstruct` method, or `reconstruct_pictures` if it looks at the video itself. They are loaded
when asked for, since they pull in torch.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Protocol, runtime_checkable

from mvai.io.video import Video
from mvai.types import Keypoints, MeshSequence, MvaiError

Progress = Callable[[int, int | None], None]
"""Called with how much is done and how much there is."""


class Reconstructor(Protocol):
    """Finds the body that shows certain key-points."""

    def reconstruct(self, keypoints: Keypoints, progress: Progress | None = None) -> MeshSequence:
        """A mesh for every frame, in world coordinates, with the camera that sees it.

        Raises:
            MvaiError: the key-points do not suffice.
        """
        ...


@runtime_checkable
class PictureReconstructor(Protocol):
    """Finds the body in the pictures themselves; key-points only say where to look."""

    def check(self) -> None:
        """Called before the work of earlier stages.

        Raises:
            MvaiError: a file that the method needs is not there.
        """
        ...

    def reconstruct_pictures(
        self, keypoints: Keypoints, video: Video, progress: Progress | None = None
    ) -> MeshSequence:
        """See `Reconstructor`; `video` is the one that the key-points were found in.

        Raises:
            MvaiError: key-points, pictures or the method's files do not suffice.
        """
        ...


METHODS = {
    "smplify-x": "mvai.reconstruct.smplify_x:SmplifyX",
    "graphcmr": "mvai.reconstruct.graphcmr:GraphCmrRegression",
    "graphcmr-image": "mvai.reconstruct.graphcmr_image:GraphCmrImage",
}
"""Method name to the class that implements it."""


def method(name: str) -> type:
    """The reconstructor class called `name`.

    Raises:
        MvaiError: there is no such method.
    """
    if name not in METHODS:
        raise MvaiError(
            f"{name}: no such reconstruction method; choose one of {', '.join(METHODS)}."
        )
    module, cls = METHODS[name].split(":")
    return getattr(import_module(module), cls)
