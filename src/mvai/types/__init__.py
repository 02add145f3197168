"""Data types: frozen dataclasses that every stage shares."""

from mvai.types.data import (
    T_CAMERA_WORLD,
    Animation,
    Camera,
    Character,
    Image,
    Keypoints,
    Mesh,
    MeshSequence,
    Part,
    Skin,
)
from mvai.types.errors import MvaiError, MvaiWarning, NobodyError

__all__ = [
    "T_CAMERA_WORLD",
    "Animation",
    "Camera",
    "Character",
    "Image",
    "Keypoints",
    "Mesh",
    "MeshSequence",
    "MvaiError",
    "MvaiWarning",
    "NobodyError",
    "Part",
    "Skin",
]
