"""Transfer by rig: fit a body to the character once, then drive its bones.

`register` looks at the character and needs no motion; its result can be kept and used with any
number of sequences. `drive` needs no pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mvai.transfer import Source
from mvai.transfer.rig_settings import RigSettings
from mvai.types import Animation, Character, MeshSequence

if TYPE_CHECKING:
    from mvai.transfer.registration.find_joints import ImageDetector
    from mvai.transfer.rig_register import Registration


@dataclass(frozen=True)
class RigTransfer(RigSettings):
    """Fits a skeleton to the character and drives it."""

    def register(self, character: Character, detector: ImageDetector) -> Registration:
        """See `mvai.transfer.TransferMethod`."""
        from mvai.transfer.rig_register import register

        return register(character, detector, self)

    def drive(
        self, registration: Registration, sequence: MeshSequence, source: Source | None = None
    ) -> Animation:
        """See `mvai.transfer.TransferMethod`."""
        from mvai.transfer.rig_drive import drive

        # The file of joints is the character's.
        rest = None if source is None else source(replace(self, joints=None))
        return drive(registration, sequence, self, rest)
