"""Give it a video of a person and any 3D character mesh: the character performs the same action.

import mvai
animation = mvai.imitate("clip.mp4", "hero.glb")
animation.save("hero_acting.glb")
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Torch's threads spin while they wait for one another. On a machine with other work that makes two
# threads many times slower than one; sleeping instead costs nothing measurable. OpenMP reads these
# when torch is first loaded; whoever has set them keeps the setting.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

if TYPE_CHECKING:
    from mvai.api import (
        Imitation,
        imitate,
        imitate_results,
        import_results,
        open_archive,
        reconstruct_video,
        transfer_sequence,
    )
    from mvai.types import MvaiError

__all__ = [
    "Imitation",
    "MvaiError",
    "imitate",
    "imitate_results",
    "import_results",
    "open_archive",
    "reconstruct_video",
    "transfer_sequence",
]


def __getattr__(name: str) -> Any:
    """Loads the library on first use, so that `import mvai` is quick."""
    if name not in __all__:
        raise AttributeError(f"module 'mvai' has no attribute '{name}'")
    from mvai import api

    return getattr(api, name)
