"""A character as neural pose transfer sees it: in units of its height, about its box's centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from mvai.body.anny import anny_body
from mvai.geometry.surface import sample_surface
from mvai.nets.npt_files import TrainedNpt
from mvai.nets.npt_skeleton import IdentityJoints
from mvai.transfer.registration.find_body import find_body
from mvai.transfer.registration.find_joints import ImageDetector
from mvai.transfer.registration.outward import facing_outward
from mvai.transfer.registration.weights import transfer_weights
from mvai.types import Character, MvaiError

SAMPLES = 2048
"""Points spread evenly over the identity's surface, from which it is known as a whole."""


LOST = 0.045
"""Joints this far from the surface, as a share of the height, are not where the network says. On
people in its own rest pose it is 0.01 to 0.03, on mannequins and in T-pose 0.07 and more."""
FAR_TIMES, FAR = 3.0, 0.05
"""A bone is far that is so many times as far as the nearest one and a share of the height more."""


@dataclass(frozen=True)
class NptIdentity:
    """A character that is ready for the network."""

    character: Character
    centre: Float[np.ndarray, "3"]
    """Middle of the bounding box (metres)."""
    height: float
    """Metres."""
    vertices: Float[Tensor, "verts 3"]
    """In units of the height, about the centre; likewise all below."""
    whole: Float[Tensor, " features"] | None
    """The identity's code."""
    joints: IdentityJoints
    skin: tuple[Int[np.ndarray, "verts influences"], Float[np.ndarray, "verts influences"]] | None
    """Joints that move each vertex and their shares, where the network does not know."""
    found: bool = True
    """Whether the joints are where they should be: near the surface, or those of a fitted body."""

    def metres(self, x: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Back to the character's own frame."""
        return x * self.height + self.centre


def identity_of(
    trained: TrainedNpt, character: Character, detector: ImageDetector | None = None
) -> NptIdentity:
    """What the network knows of a character.

    It was trained on bodies and finds no hands on characters that are built or stand otherwise;
    joints then lie far outside the surface, and fingers that turn about them are drawn out. With a
    detector, the joints of such a character are those of the body fitted to it, and its skin
    weights too, if it can be found.

    Raises:
        MvaiError: it has no surface.
    """
    mesh = character.mesh
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    height, centre = float(high[1] - low[1]), (low + high).astype(np.float64) / 2
    if not height > 0 or not len(mesh.faces):
        raise MvaiError(f"{character.name}: it has no surface to pose; give a mesh with faces.")
    outward = facing_outward(character)
    mesh = outward.mesh
    samples, _ = sample_surface(mesh.vertices.astype(np.float64), mesh.faces, SAMPLES)
    unit = lambda x: torch.from_numpy(((x - centre) / height).astype(np.float32))  # noqa: E731
    with torch.no_grad():
        whole = trained.npt.identity_code(unit(samples))
        joints = trained.npt.joint_finder(unit(samples))
    skin = None
    lost = _hands_lost(trained, joints, unit(mesh.vertices))
    if detector is not None and lost:
        body = anny_body()
        try:
            fit = find_body(body, outward, detector).fit
        except MvaiError:
            fit = None
        if fit is not None:
            turns = torch.from_numpy(fit.R_world_joint.astype(np.float32))
            joints = IdentityJoints(unit(fit.t_world_joint), joints.lift, turns)
            skin = transfer_weights(body, fit.vertices, mesh)
    found = skin is not None or not lost
    return NptIdentity(character, centre, height, unit(mesh.vertices), whole, joints, skin, found)


def _hands_lost(trained: TrainedNpt, joints: IdentityJoints, x: Float[Tensor, "verts 3"]) -> bool:
    """Whether the last joints, which are those of fingers mostly, are far from any vertex."""
    parents = trained.npt.settings.parents
    last = [j for j in range(len(parents)) if j not in parents]
    off = KDTree(x.numpy()).query(joints.positions[last].numpy())[0]
    return float(np.median(off)) > LOST


def vertex_weights(
    trained: TrainedNpt, identity: NptIdentity, some: slice, known: Float[Tensor, "some known"]
) -> Float[Tensor, "some joints"]:
    """Skin weights of some vertices, of which `known` is what the network knows."""
    if identity.skin is None:
        x = identity.vertices[some]
        return without_far_bones(trained, identity, x, trained.npt.weights(known))
    indices, weights = (torch.from_numpy(a[some]) for a in identity.skin)
    W = torch.zeros(len(indices), len(identity.joints.positions))
    return W.scatter_add_(1, indices.long(), weights.float())


def without_far_bones(
    trained: TrainedNpt,
    identity: NptIdentity,
    x: Float[Tensor, "verts 3"],
    weights: Float[Tensor, "verts joints"],
) -> Float[Tensor, "verts joints"]:
    """Skin weights less those of bones that are far from a vertex while others are near.

    On characters unlike people the network gives some finger tips a share in the trunk, which
    would tear them.
    """
    p, parents = identity.joints.positions, trained.npt.settings.parents
    distance = torch.full_like(weights, torch.inf)
    for j, q in enumerate(parents):
        leaf = j not in parents
        # A bone goes from a joint to each of its children, and beyond the last one as far again.
        for at, a, b in ((q, p[q], p[j]), (j, p[j], 2 * p[j] - p[q] if leaf else p[j])):
            if at < 0 or q < 0:
                continue
            along = b - a
            share = ((x - a) @ along / along.square().sum().clamp(min=1e-12)).clamp(0, 1)
            d = (x - a - share[:, None] * along).norm(dim=-1)
            distance[:, at] = torch.minimum(distance[:, at], d)
    nearest = distance.amin(1, keepdim=True)
    kept = weights * (distance <= FAR_TIMES * nearest + FAR)
    kept = kept + 1e-6 * (distance == nearest)
    return kept / kept.sum(1, keepdim=True)
