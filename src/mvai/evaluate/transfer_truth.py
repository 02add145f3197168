"""Exact truth for pose transfer: characters that share a rig, and actions made for that rig.

An action gives every bone a world rotation. Given to two characters it is the same action twice,
each along its own bones, so that the one is the truth for a transfer from the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation, Slerp

from mvai.body.skinning import skinned, skinning_operator
from mvai.geometry.rigid import nearest_rotations, transforms
from mvai.io.files_beside import folder_loader
from mvai.io.gltf_file import GltfFile, accessor, as_float, parse_gltf
from mvai.io.gltf_nodes import local_transform, merged_joints, rigid_part, scene_nodes
from mvai.types import Character, MeshSequence, MvaiError, Skin

PELVIS = "pelvis"
OWN_VERTICES = 8
"""Bones with fewer vertices that are mostly theirs show no rotation."""
WORST_SHARE = 99.0


@dataclass(frozen=True)
class RigAction:
    """A movement of a rig."""

    name: str
    fps: float
    R_world_bone: Mapping[str, Float[np.ndarray, "frames 3 3"]]
    pelvis: Float[np.ndarray, "frames 3"]
    """World position of the pelvis (metres)."""
    pelvis_rest_m: float
    """Its height at rest."""


def read_actions(path: Path, fps: float = 30.0) -> list[RigAction]:
    """All actions of a glTF file that last longer than one frame.

    Raises:
        MvaiError: the file cannot be read, has no animations, or its rig has no pelvis.
    """
    gltf = parse_gltf(path.read_bytes(), folder_loader(path.parent), str(path))
    nodes = scene_nodes(gltf)
    joints = merged_joints(gltf, nodes)
    if not gltf.items("animations") or PELVIS not in joints.names:
        raise MvaiError(f"{path}: it holds no actions of a rig with a bone named {PELVIS}.")
    rest = rigid_part(np.stack([nodes.T_world_node[n] for n in joints.nodes]))
    pelvis = joints.names.index(PELVIS)
    actions = []
    for animation in gltf.items("animations"):
        Ts = _world(gltf, animation, fps)
        if len(next(iter(Ts.values()))) < 2:
            continue
        T = rigid_part(np.stack([Ts[n] for n in joints.nodes], axis=1))
        actions.append(
            RigAction(
                name=str(animation.get("name", len(actions))),
                fps=fps,
                R_world_bone={n: T[:, j, :3, :3] for j, n in enumerate(joints.names)},
                pelvis=T[:, pelvis, :3, 3],
                pelvis_rest_m=float(rest[pelvis, 1, 3]),
            )
        )
    return actions


def _world(gltf: GltfFile, animation: dict, fps: float) -> dict[int, np.ndarray]:
    """World transforms of all nodes of the scene over time (frames, 4, 4)."""
    samplers = animation["samplers"]
    end = max(float(as_float(*accessor(gltf, s["input"])).max()) for s in samplers)
    at = np.arange(int(end * fps + 1e-6) + 1) / fps
    moved: dict[int, dict[str, np.ndarray]] = {}
    for channel in animation["channels"]:
        sampler = samplers[channel["sampler"]]
        times = as_float(*accessor(gltf, sampler["input"]))[:, 0].astype(float)
        values = as_float(*accessor(gltf, sampler["output"])).astype(float)
        step = sampler.get("interpolation") == "STEP"
        path = channel["target"]["path"]
        moved.setdefault(channel["target"]["node"], {})[path] = _sampled(
            times, values, at, step, path == "rotation"
        )
    nodes = scene_nodes(gltf)
    Ts: dict[int, np.ndarray] = {}
    for i in nodes.order:
        local = np.tile(local_transform(gltf.items("nodes")[i]), (len(at), 1, 1))
        tracks = moved.get(i, {})
        R = rigid_part(local)[:, :3, :3]
        if "rotation" in tracks:
            R = Rotation.from_quat(tracks["rotation"]).as_matrix()
        scale = tracks.get("scale", np.linalg.norm(local[:, :3, :3], axis=1))
        local[:, :3, :3] = R * scale[:, None]  # type: ignore[index]
        if "translation" in tracks:
            local[:, :3, 3] = tracks["translation"]
        above = nodes.parent[i]
        Ts[i] = local if above < 0 else Ts[above] @ local
    return Ts


def _sampled(
    times: np.ndarray, values: np.ndarray, at: np.ndarray, step: bool, turns: bool
) -> np.ndarray:
    at = np.clip(at, times[0], times[-1])
    if len(times) == 1 or step:
        return values[np.searchsorted(times, at, side="right") - 1]
    if turns:
        return Slerp(times, Rotation.from_quat(values))(at).as_quat()
    return np.stack([np.interp(at, times, v) for v in values.T], axis=1)


def acted(
    character: Character, action: RigAction
) -> tuple[MeshSequence, Float[np.ndarray, "frames joints 3 3"]]:
    """The action on a character that has the rig, and the world rotations of its bones.

    Bones that the action does not name keep still against their parents. The path of the pelvis
    is scaled by its height.

    Raises:
        MvaiError: it does not have the rig.
    """
    skin = character.skin
    if skin is None or PELVIS not in skin.joints:
        raise MvaiError(f"{character.name}: it does not bring the rig of the actions.")
    rest, at = skin.T_world_joint[:, :3, :3], skin.T_world_joint[:, :3, 3]
    frames = len(action.pelvis)
    R = np.tile(np.eye(3), (frames, len(skin.joints), 1, 1))
    t = np.zeros((frames, len(skin.joints), 3))
    for j, (name, p) in enumerate(zip(skin.joints, skin.parents, strict=True)):
        if name in action.R_world_bone:
            R[:, j] = action.R_world_bone[name]
        else:
            R[:, j] = R[:, p] @ rest[p].T @ rest[j] if p >= 0 else rest[j]
        if p >= 0:
            t[:, j] = t[:, p] + R[:, p] @ rest[p].T @ (at[j] - at[p])
    pelvis = skin.joints.index(PELVIS)
    path = action.pelvis * (at[pelvis, 1] / action.pelvis_rest_m)
    t += (path - t[:, pelvis])[:, None]
    mesh = character.mesh
    vertices = skinned(skinning_operator(skin, mesh.vertices), transforms(R, t))
    return MeshSequence(vertices, mesh.faces, action.fps), R


def truth_errors(
    result: Float[np.ndarray, "frames verts 3"],
    truth: Float[np.ndarray, "frames verts 3"],
    skin: Skin,
    height_m: float,
) -> dict[str, float]:
    """How far a transfer is from the truth.

    Both are centred on the mean of their vertices in every frame: where the character stands is a
    question of taste (floor, leg length) and no part of its pose.

    Args:
        result: what was transferred.
        truth: likewise, vertex by vertex.
        skin: of the truth; bones show how far parts of the result are turned.
        height_m: of the character at rest.

    Returns:
        Mean vertex error and the 99th percentile as shares of the height in percent, and the mean
        angle in degrees between a bone's part of the surface and the truth's.
    """
    a = result - result.mean(1, keepdims=True)
    b = truth - truth.mean(1, keepdims=True)
    error = np.linalg.norm(a - b, axis=-1) / height_m * 100
    angles = []
    share = np.zeros((len(skin.weights), len(skin.joints)))
    np.add.at(share, (np.arange(len(share))[:, None], skin.weight_indices), skin.weights)
    for own in (share > 0.5).T:
        if own.sum() < OWN_VERTICES:
            continue
        p, q = a[:, own], b[:, own]
        p, q = p - p.mean(1, keepdims=True), q - q.mean(1, keepdims=True)
        H = np.einsum("fva,fvb->fab", p, q)
        spread = np.linalg.svd(H, compute_uv=False)
        if (spread[:, 1] < 1e-3 * spread[:, 0]).any():
            continue  # A part that is a line shows no turn about itself.
        R = nearest_rotations(H.transpose(0, 2, 1))
        cosine = (np.trace(R, axis1=1, axis2=2) - 1) / 2
        angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    return {
        "error_percent": float(error.mean()),
        "worst_percent": float(np.percentile(error, WORST_SHARE)),
        "angle_deg": float(np.mean(angles)) if angles else float("nan"),
    }
