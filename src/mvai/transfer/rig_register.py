"""A skeleton with skin weights for a character (method `rig`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import threadpool_limits

from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.geometry.rigid import transforms
from mvai.io.characters import transformed
from mvai.transfer.legs import body_legs
from mvai.transfer.registration.find_joints import ImageDetector
from mvai.transfer.registration.fit import FittedTemplate
from mvai.transfer.registration.outward import facing_outward
from mvai.transfer.registration.turned import find_body_in_any_turn
from mvai.transfer.registration.weights import transfer_weights
from mvai.transfer.rig_elastic import elastic_weights
from mvai.transfer.rig_kept import kept_skeleton
from mvai.transfer.rig_own import own_rig
from mvai.transfer.rig_points import BodyPoints, bound_points
from mvai.transfer.rig_retarget import DrivenSkeleton
from mvai.transfer.rig_settings import RigSettings
from mvai.transfer.rig_twist import with_twist_bones
from mvai.types import Character, Mesh, Skin

ONE_THREAD = threadpool_limits.wrap(limits=1, user_api="blas")
"""The matrices are so small that threads gain nothing, and detection wants the other cores."""


@dataclass(frozen=True)
class Registration:
    """A character that is ready to be driven."""

    character: Character
    skeleton: DrivenSkeleton
    keypoint_error_m: float
    """Mean distance between the fitted body and the key-points found on the character."""
    surface_error_m: float
    """Median distance between the fitted body and the character's surface."""
    coverage: float = float("nan")
    """Share of both surfaces that lies near the other, 0 to 1."""
    confidence: Mapping[str, float] = field(default_factory=dict)
    """How sure the place of each key-point is, 0 to 1."""
    points: BodyPoints | None = None
    """Points of its surface that every body has; None where the surface was not looked at."""


@ONE_THREAD
def register(
    character: Character, detector: ImageDetector, config: RigSettings | None = None
) -> Registration:
    """Find the body in the character and give it a skeleton and skin weights.

    A humanoid rig that the character brings is used as it is, unless `config.ignore_rig`; then the
    detector is not called.

    Raises:
        MvaiError: When no human body can be found in it.
    """
    config = config or RigSettings()
    body = anny_body()
    outward = facing_outward(character)
    mesh = outward.mesh
    own = None if config.ignore_rig else own_rig(body, outward)
    if own is not None:
        skeleton, error, surface = own
        points = bound_points(body, surface, mesh, skeleton.skin)
        return Registration(character, skeleton, error, float("nan"), points=points)
    found, T_turned = find_body_in_any_turn(body, outward, detector, config.joints)
    character, mesh = transformed(character, T_turned), transformed(outward, T_turned).mesh
    fit = found.fit
    skeleton, points = kept_skeleton(
        mesh, fit, f"twist {config.twist_bones}", lambda: _made(body, mesh, fit, config)
    )
    return Registration(
        character,
        skeleton,
        fit.keypoint_error_m,
        fit.surface_error_m,
        fit.coverage,
        dict(zip(found.joints.names, found.joints.confidence.tolist(), strict=True)),
        points,
    )


def _made(
    body: LinearBody, mesh: Mesh, fit: FittedTemplate, config: RigSettings
) -> tuple[DrivenSkeleton, BodyPoints | None]:
    """Skeleton, skin weights and points of the body for a mesh that the template lies on."""
    indices, weights = transfer_weights(body, fit.vertices, mesh)
    skin = Skin(
        joints=body.joints,
        parents=body.parents,
        T_world_joint=transforms(fit.R_world_joint, fit.t_world_joint),
        weight_indices=indices,
        weights=weights,
    )
    J = len(body.joints)
    skeleton = DrivenSkeleton(
        skin=skin,
        source=np.arange(J),
        A_template_joint=np.tile(np.eye(3), (J, 1, 1)),
        legs=body_legs(body),
        root=0,
    )
    if config.twist_bones:
        skeleton = with_twist_bones(skeleton, body, mesh)
    skeleton = elastic_weights(skeleton, body, mesh)
    return skeleton, bound_points(body, fit.vertices, mesh, skeleton.skin)
