"""Fits the template body to a character: first to its key-points, then to its surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.lbfgs import minimise
from mvai.geometry.rigid import similarity
from mvai.geometry.surface import sample_surface, vertex_normals
from mvai.transfer.rig_find_joints import FoundJoints
from mvai.transfer.rig_template import LIMBS, Pose, ScaledTemplate, TemplatePoints
from mvai.types import Mesh

TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
HAND_TIPS = ("_index", "_pinky", "_thumb")
SURFACE_SAMPLES = 6000
ROUNDS = ((0.05, 3), (0.035, 3), (0.025, 4), (0.02, 4))
"""Scale of the robust surface distance, as a share of the height, and rounds under it."""
ITERATIONS = 12
"""Descent steps between two searches for nearest points."""


@dataclass(frozen=True)
class FittedTemplate:
    """The template in a character's rest pose."""

    vertices: Float[np.ndarray, "verts 3"]
    """The template's surface on the character, in the character's world frame."""
    R_world_joint: Float[np.ndarray, "joints 3 3"]
    """What turned each joint from the template's rest to the character's rest."""
    t_world_joint: Float[np.ndarray, "joints 3"]
    keypoint_error_m: float
    """Weighted mean distance to the key-points that were found."""
    surface_error_m: float
    """Median distance from the template to the character's surface."""


def fit_template(
    body: LinearBody, found: FoundJoints, mesh: Mesh, to_surface: bool = True
) -> FittedTemplate:
    """Fit shape, limb scales and rest pose.

    Args:
        body: the template.
        found: where the character's key-points are; names are the body's regressed points.
        mesh: the character at rest.
        to_surface: False leaves the surface out (for characters whose joints are known exactly).
    """
    template = ScaledTemplate(body)
    use = [
        i
        for i, n in enumerate(found.names)
        if n in body.regressed and np.isfinite(found.xyz_m[i]).all() and found.confidence[i] > 0.05
    ]
    names = tuple(found.names[i] for i in use)
    target = torch.from_numpy(found.xyz_m[use].astype(np.float32))
    weight = torch.from_numpy(found.confidence[use].astype(np.float32)) * _trust(names)
    points = template.named(names)
    height = float(np.ptp(mesh.vertices[:, 1]))

    x = _start(template, points, names, target)
    prior = _Prior(template)

    def keypoint_term(pose: Pose, sigma: float) -> Tensor:
        d2 = (template.place(points, pose) - target).square().sum(-1) / (sigma * height) ** 2
        return (weight * d2 / (1 + 0.1 * d2)).sum()

    for sigma, iterations in ((0.05, 60), (0.02, 120)):

        def energy(rows: Tensor, sigma: float = sigma) -> Tensor:
            pose = template.split(rows[0])
            return (keypoint_term(pose, sigma) + prior(pose))[None]

        x = minimise(energy, x[None], iterations)[0]

    surface_error = float("nan")
    if to_surface:
        x, surface_error = _fit_surface(template, x, keypoint_term, prior, mesh, height)

    pose = template.split(x)
    everything = template.vertices()
    R, t, _ = template.joint_transforms(pose)
    miss = (template.place(points, pose) - target).norm(dim=-1)
    return FittedTemplate(
        vertices=template.place(everything, pose).numpy().astype(np.float64),
        R_world_joint=R.numpy().astype(np.float64),
        t_world_joint=t.numpy().astype(np.float64),
        keypoint_error_m=float((weight * miss).sum() / weight.sum()),
        surface_error_m=surface_error,
    )


def _trust(names: tuple[str, ...]) -> Float[Tensor, " points"]:
    """How well a detector's key-point and the body's point of that name agree."""
    trust = []
    for n in names:
        if "_hand_" in n:
            trust.append(0.15)
        elif n.endswith(HAND_TIPS):
            trust.append(0.2)
        elif n.endswith(("_ear", "_eye", "nose", "_heel", "_foot_index")):
            trust.append(0.3)
        else:
            trust.append(1.0)
    return torch.tensor(trust)


def _start(
    template: ScaledTemplate, points: TemplatePoints, names: tuple[str, ...], target: Tensor
) -> Float[Tensor, " size"]:
    """The mean body, turned, scaled and moved so that its torso meets the character's."""
    x = template.start()
    torso = [names.index(n) for n in TORSO if n in names] or list(range(len(names)))
    rest = template.place(points, template.split(x))[torso].numpy().astype(np.float64)
    scale, R, _ = similarity(rest, target[torso].numpy().astype(np.float64))
    S = template.body.shape_size
    x[S] = float(np.log(scale))
    yaw = np.arctan2(R[0, 2] - R[2, 0], R[0, 0] + R[2, 2])
    x[S + 1 + len(LIMBS) : S + 4 + len(LIMBS)] = torch.tensor([0.0, float(yaw), 0.0])
    x[-3:] = (target[torso] - template.place(points, template.split(x))[torso]).mean(0)
    return x


class _Prior:
    """What a body is like when nothing is seen: average, straight, limbs in proportion."""

    def __init__(self, template: ScaledTemplate) -> None:
        stiff = []
        for joint in template.body.joints:
            if joint == "Hips":
                stiff.append(0.3)
            elif joint.startswith("Spine") or joint in ("Neck", "Head"):
                stiff.append(8.0)
            elif joint.endswith("Shoulder"):
                stiff.append(8.0)
            elif "Hand" in joint and joint[-1].isdigit():
                stiff.append(2.0)
            elif joint.endswith(("Hand", "Foot")):
                stiff.append(2.0)
            elif joint.endswith("ToeBase"):
                stiff.append(6.0)
            else:
                stiff.append(0.5)
        self.stiff = torch.tensor(stiff)

    def __call__(self, pose: Pose) -> Tensor:
        return (
            0.1 * pose.shape.square().sum()
            + 20.0 * pose.log_limb.square().sum()
            + (self.stiff[:, None] * pose.rotations.square()).sum()
        )


def _fit_surface(template, x, keypoint_term, prior, mesh: Mesh, height: float):  # noqa: ANN001
    """Nearest points with agreeing normals, both ways, under a shrinking robust distance."""
    body = template.body
    ids = template_samples(body)
    points = template.vertices(ids)
    faces = body.faces
    samples, sample_normals = sample_surface(mesh.vertices, mesh.faces, SURFACE_SAMPLES)
    tree = cKDTree(samples)
    samples_t = torch.from_numpy(samples.astype(np.float32))
    normals_t = torch.from_numpy(sample_normals.astype(np.float32))
    whole = template.vertices()
    median = float("nan")
    for share, rounds in ROUNDS:
        sigma = share * height
        for _ in range(rounds):
            with torch.no_grad():
                surface = template.place(whole, template.split(x)).numpy().astype(np.float64)
            own_normals = vertex_normals(surface, faces)[ids]
            near, weight = _matches(
                surface[ids], own_normals, tree, samples, sample_normals, sigma
            )
            back, back_weight = _matches(
                samples, sample_normals, cKDTree(surface[ids]), surface[ids], own_normals, sigma
            )
            median = float(np.median(np.linalg.norm(samples[near] - surface[ids], axis=1)))
            near_t, back_t = torch.from_numpy(near), torch.from_numpy(back)
            w = torch.from_numpy(weight.astype(np.float32))
            bw = torch.from_numpy(back_weight.astype(np.float32))

            def energy(rows: Tensor) -> Tensor:
                pose = template.split(rows[0])
                p = template.place(points, pose)
                d = p - samples_t[near_t]
                plane = (d * normals_t[near_t]).sum(-1).square() + 0.1 * d.square().sum(-1)
                e = p[back_t] - samples_t
                back_plane = (e * normals_t).sum(-1).square() + 0.1 * e.square().sum(-1)
                data = (w * plane).sum() / len(w) + (bw * back_plane).sum() / len(bw)
                return (
                    400 * data / (0.02 * height) ** 2 + keypoint_term(pose, 0.02) + prior(pose)
                )[None]

            x = minimise(energy, x[None], ITERATIONS)[0]
    return x, median


def _matches(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    tree: cKDTree,
    targets: Float[np.ndarray, "m 3"],
    target_normals: Float[np.ndarray, "m 3"],
    sigma: float,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The nearest target whose normal agrees, and a Geman-McClure weight."""
    distance, index = tree.query(points, k=8)
    agree = (normals[:, None] * target_normals[index]).sum(-1)
    cost = distance + np.where(agree > 0.4, 0, 1e3)
    best = cost.argmin(1)
    rows = np.arange(len(points))
    d, a = distance[rows, best], agree[rows, best]
    weight = np.clip(a, 0, 1) / (1 + (d / sigma) ** 2) ** 2
    return index[rows, best], np.where(a > 0.4, weight, 0.0)


def template_samples(body: LinearBody, count: int = 3500) -> Int[np.ndarray, " points"]:
    """Template vertices for surface terms: thinned where the mesh is fine, eyes left out."""
    from mvai.geometry.surface import components

    piece = components(len(body.template), body.faces)
    largest = np.bincount(piece).argmax()
    v = body.template.numpy().astype(np.float64)
    cell = 0.014
    keys = np.floor(v / cell).astype(np.int64)
    _, first = np.unique(keys, axis=0, return_index=True)
    first = first[piece[first] == largest]
    return np.sort(first)[:: max(1, len(first) // count)]
