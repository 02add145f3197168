"""Settings of the energy of a whole clip (`mvai.reconstruct.clip_energy`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClipWeights:
    """Standard deviations of the terms of the default setting."""

    pixel_m: float = 0.015
    """2D key-points, as metres at the person's depth."""
    pixel_rho_m: float = 0.15
    """Beyond this a 2D key-point is taken for an outlier."""
    landmark: float = 1.0
    """3D landmarks, as a multiple of the deviation they come with."""
    landmark_rho: float = 4.0
    """Beyond this multiple of its deviation a 3D landmark is taken for an outlier."""
    acceleration: float = 20.0
    """Joints' acceleration, m/s^2."""
    contact_m: float = 0.01
    """Movement of a planted foot between two frames."""
    bend: float = 1.0
    """Weight of the elbow and knee prior."""
    pose: float = 0.7
    """Weight of the pose prior."""
    stand_rad: float = 0.2
    """Turn of the joints of a leg that is not in the picture, from that of straight legs."""
    collision_m: float = 0.02
    """Depth to which limbs may sink into one another."""
    shape: float = 0.2
    """Shape coefficients: tighter than their unit variance, because what the frames have in common
    is partly the detector's own bias."""
