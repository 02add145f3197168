"""Transfer (the paper's module G): a mesh sequence and a character make an animation.

`METHODS` names the methods; each is a frozen dataclass with its settings as fields and two methods:
`register` makes a character ready once, `drive` makes it act. They are loaded when asked for, since
they pull in torch. What several of them have to find out is shared: in `registration` how the body
lies in a character, in `reading` what a moving mesh of any kind does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from mvai.types import Animation, Character, MeshSequence, MvaiError

if TYPE_CHECKING:
    from mvai.transfer.registration.find_joints import ImageDetector

Source = Callable[["TransferMethod"], Any]
"""Registers the first frame of a sequence in no known vertex order by a method, as a character is;
raises MvaiError where no body is found in it."""


class TransferMethod(Protocol):
    """Makes characters act."""

    def register(self, character: Character, detector: ImageDetector) -> Any:
        """What there is to find out about a character before it can be driven.

        Args:
            character: in its world frame.
            detector: finds the key-points of a person in a picture; its networks are loaded at the
                first one.

        Raises:
            MvaiError: the method cannot work with this character.
        """
        ...

    def drive(
        self, registration: Any, sequence: MeshSequence, source: Source | None = None
    ) -> Animation:
        """The character doing what the sequence does.

        Args:
            registration: what `register` returned.
            sequence: the movement.
            source: to be called by a method that wants to know how the sequence's own mesh looks
                at rest; None for a sequence in a known vertex order.

        Raises:
            MvaiError: the method cannot read this sequence.
        """
        ...


def found_source(source: Source | None, method: TransferMethod) -> Any:
    """The source registered, for a method that can do without: None where no body is found."""
    try:
        return None if source is None else source(method)
    except MvaiError:
        return None


METHODS = {
    "rig": "mvai.transfer.rig:RigTransfer",
    "npt": "mvai.transfer.npt:NptTransfer",
    "sa-pd": "mvai.transfer.sa_pd:SaPdTransfer",
    "npt-detail": "mvai.transfer.npt_detail:NptDetailTransfer",
}
"""Method name to the class that implements it."""
