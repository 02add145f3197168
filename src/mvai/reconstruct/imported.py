"""Results of other tools as mesh sequences.

SMPL parameters pose the body they were made for, from the file that the user has, or by retargeting
the shipped body; marker positions are fitted; motion capture is retargeted; surfaces are taken as
they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from mvai.body import BodyName, body_model
from mvai.body.anny import anny_body
from mvai.body.bvh_poses import poses_from_bvh
from mvai.body.model import LinearBody
from mvai.body.retarget import swings
from mvai.body.smpl import BODY, JOINTS, PARENTS
from mvai.body.t_pose import T_POSE
from mvai.geometry.rigid import nearest_rotations
from mvai.io.results.data import (
    T_WORLD_CAMERA,
    AnnyParameters,
    BodyParameters,
    MotionCapture,
    MovingMesh,
    PointTracks,
    Results,
)
from mvai.nets.pose_prior import GaussianMixture, load_pose_prior
from mvai.reconstruct.anny_bones import anny_vertices
from mvai.reconstruct.fit_points import fit_points
from mvai.types import Camera, MeshSequence, MvaiError
from mvai.types.names import BODY_JOINTS

FPS = 30.0
"""Taken where neither the file nor the user says."""
BLOCK = 64
SMPL_FACES, SMPLX_FACES = 13776, 20908
LONGEST_GAP = 20
"""A file may leave out this many times as many frames as it holds."""

Report = Callable[[float], None]


@dataclass(frozen=True)
class ImportSettings:
    """How a result becomes a mesh sequence."""

    body_model: BodyName | None = None
    """Body to pose; None: the one the file was made with."""
    body_model_path: Path | None = None
    """Folder of the files of the SMPL family."""
    fps: float | None = None
    """Frames a second; None: as the file says, or 30."""


def mesh_sequence(
    results: Results, settings: ImportSettings, report: Report = lambda share: None
) -> MeshSequence:
    """The body that a result describes, in world coordinates.

    Raises:
        MvaiError: a body-model file is needed and missing, or the content does not suffice.
    """
    fps = settings.fps if settings.fps is not None else getattr(results, "fps", None) or FPS
    if not 0 < fps < 10_000:
        raise MvaiError(f"{fps:g}: this is no frame rate; give frames a second with --fps.")
    if isinstance(results, BodyParameters):
        return _from_parameters(results, settings, fps, report)
    if isinstance(results, PointTracks):
        return _from_points(results, fps, report)
    if isinstance(results, MovingMesh):
        topology = _topology(results)
        vertices = results.vertices.astype(np.float32)
        return MeshSequence(vertices, results.faces.astype(np.int32), fps, topology)
    if isinstance(results, AnnyParameters):
        frames, vertices = anny_vertices(results)
        return _spread_over(frames, vertices, anny_body().faces, fps, "anny", _camera(results.K))
    assert isinstance(results, MotionCapture)
    body = anny_body()
    clip = poses_from_bvh(results.path, body)
    R = np.tile(np.eye(3), (clip.frames, len(body.joints), 1, 1))
    local = Rotation.from_rotvec(clip.pose.reshape(-1, 3)).as_matrix().reshape(-1, 22, 3, 3)
    R[:, [body.joint(n) for n in BODY_JOINTS]] = local
    vertices = posed(body, np.zeros(body.shape_size), R, clip.translation, report)
    rate = clip.fps if settings.fps is None else settings.fps
    return MeshSequence(
        vertices, body.faces, rate, body.topology, confidence=clip.measured.astype(float)
    )


def posed(
    body: LinearBody,
    shape: Float[np.ndarray, " shape"],
    R: Float[np.ndarray, "frames joints 3 3"],
    translation: Float[np.ndarray, "frames 3"],
    report: Report = lambda share: None,
) -> Float[np.ndarray, "frames verts 3"]:
    """The surface in every frame, some frames at a time."""
    whole = torch.zeros(1, body.shape_size)
    whole[0, : min(len(shape), body.shape_size)] = torch.from_numpy(
        shape[: body.shape_size].astype(np.float32)
    )
    out = np.empty((len(R), len(body.template), 3), np.float32)
    for start in range(0, len(R), BLOCK):
        part = slice(start, start + BLOCK)
        rotations = torch.from_numpy(R[part].astype(np.float32))
        move = torch.from_numpy(translation[part].astype(np.float32))
        with torch.no_grad():
            out[part] = body.vertices(whole.expand(len(rotations), -1), rotations, move).numpy()
        report(min(1.0, (start + BLOCK) / len(R)))
    return out


# --- SMPL parameters ----------------------------------------------------------------------------


def _from_parameters(
    p: BodyParameters, settings: ImportSettings, fps: float, report: Report
) -> MeshSequence:
    model = settings.body_model or p.model
    if model == "anny":
        return _retargeted(p, fps, report)
    try:
        body = body_model(
            model,  # type: ignore[arg-type]
            settings.body_model_path,
            p.gender if p.gender in ("male", "female") else "neutral",  # type: ignore[arg-type]
            max(10, len(p.shape)),
        )
    except MvaiError as error:
        raise MvaiError(
            f"{p.kind} result: {str(error).removesuffix('.')}; or pose the shipped body instead "
            "with --body-model anny."
        ) from error
    same = model == p.model or {model, p.model} == {"smpl", "smplh"}
    names = JOINTS[p.model][: p.R_parent_joint.shape[1]] if same else BODY
    R = np.tile(np.eye(3), (len(p.frames), len(body.joints), 1, 1))
    for j, name in enumerate(names):
        # SMPL's single hand joint is no finger of a model that has them.
        if name in body.joints and (model == p.model or name in BODY):
            R[:, body.joint(name)] = p.R_parent_joint[:, j]
    # Shape coefficients of SMPL-X mean other directions than those of SMPL and SMPL-H.
    shape = p.shape if same else np.zeros(1)
    T = np.broadcast_to(p.T_world_file, (len(R), 4, 4))
    R[:, 0] = T[:, :3, :3] @ R[:, 0]
    whole = torch.zeros(body.shape_size)
    whole[: min(len(shape), body.shape_size)] = torch.from_numpy(
        shape[: body.shape_size].astype(np.float32)
    )
    rest_root = body.rest_joints(whole)[0].numpy()
    assert body.origin is not None
    root = rest_root - body.origin.numpy() + p.translation
    root = np.einsum("fab,fb->fa", T[:, :3, :3], root) + T[:, :3, 3]
    R, root, seen = continuous(p.frames, R, root)
    vertices = posed(body, shape, R, root - rest_root, report)
    return MeshSequence(
        vertices, body.faces, fps, body.topology, _camera(p.K), seen.astype(np.float64)
    )


def _retargeted(p: BodyParameters, fps: float, report: Report) -> MeshSequence:
    """The shipped body turned as the result says, from a T-pose; the person's shape is not known.

    The path is that of the pelvis; results in a world of their own are set on its floor, y = 0.
    """
    body = anny_body()
    swing = swings(body, T_POSE, {})
    names = JOINTS[p.model][: p.R_parent_joint.shape[1]]
    R_file: dict[str, np.ndarray] = {}
    for j, name in enumerate(names):
        parent = PARENTS[p.model][j]
        above = R_file[names[parent]] if parent >= 0 else np.eye(3)
        R_file[name] = above @ p.R_parent_joint[:, j]
    T = np.broadcast_to(p.T_world_file, (len(p.frames), 4, 4))
    R_world = np.empty((len(p.frames), len(body.joints), 3, 3))
    for j, name in enumerate(body.joints):
        parent = body.parents[j]
        finger = "Hand" in name and not name.endswith("Hand")
        if name in R_file and not (finger and p.model == "smpl"):
            bring = swing[name[: name.index("Hand") + 4]] if finger else swing[name]
            R_world[:, j] = T[:, :3, :3] @ R_file[name] @ bring
        else:
            R_world[:, j] = R_world[:, parent]
    R = R_world.copy()
    for j, parent in enumerate(body.parents):
        if parent >= 0:
            R[:, j] = R_world[:, parent].transpose(0, 2, 1) @ R_world[:, j]
    root = np.einsum("fab,fb->fa", T[:, :3, :3], p.translation) + T[:, :3, 3]
    R, root, seen = continuous(p.frames, R, root)
    vertices = posed(body, np.zeros(1), R, root, report)
    if len(p.T_world_file) == 1 and not np.allclose(p.T_world_file[0], T_WORLD_CAMERA):
        vertices[..., 1] -= np.percentile(vertices[..., 1].min(1), 2)
    return MeshSequence(
        vertices, body.faces, fps, body.topology, _camera(p.K), seen.astype(np.float64)
    )


def continuous(
    frames: np.ndarray,
    R: Float[np.ndarray, "some joints 3 3"],
    t: Float[np.ndarray, "some 3"],
) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames 3"], np.ndarray]:
    """Every frame from the first to the last; missing ones between their neighbours.

    Returns rotations, positions, and which frames were there.
    """
    count = int(frames[-1] - frames[0]) + 1
    if count > LONGEST_GAP * len(frames):
        raise MvaiError(
            f"The person is seen in only {len(frames)} of {count} frames; choose another --person."
        )
    every = np.arange(frames[0], frames[-1] + 1)
    seen = np.isin(every, frames)
    if seen.all():
        return R, t, seen
    flat = R.reshape(len(R), -1)
    blend = np.stack([np.interp(every, frames, c) for c in flat.T], 1).reshape(count, *R.shape[1:])
    path = np.stack([np.interp(every, frames, c) for c in t.T], 1)
    full = nearest_rotations(blend)
    full[seen] = R
    return full, path, seen


def _camera(K: np.ndarray | None) -> Camera | None:
    """A camera whose picture has its principal point in the middle."""
    return None if K is None else Camera(K, round(2 * K[0, 2]), round(2 * K[1, 2]))


# --- points and surfaces ------------------------------------------------------------------------


def _from_points(points: PointTracks, fps: float, report: Report) -> MeshSequence:
    body = anny_body()
    prior = load_pose_prior()
    assert isinstance(prior, GaussianMixture)
    with torch.no_grad():
        fit = fit_points(
            body, points.names, points.xyz_m, points.sigma_m, fps, prior,
            lambda share: report(0.8 * share),
        )  # fmt: skip
        pose = fit.pose()
    seen = np.isfinite(points.xyz_m).all(-1).mean(1)
    shape: Tensor = pose.shape[0]
    vertices = posed(
        body, shape.numpy(), pose.rotations.numpy(), pose.translation.numpy(),
        lambda share: report(0.8 + 0.2 * share),
    )  # fmt: skip
    return MeshSequence(vertices, body.faces, fps, body.topology, confidence=seen)


def _topology(mesh: MovingMesh) -> str:
    """The known vertex order with so many vertices and faces."""
    body = anny_body()
    verts, faces = mesh.vertices.shape[1], len(mesh.faces)
    if (verts, faces) == (len(body.template), len(body.faces)):
        return "anny" if np.array_equal(mesh.faces, body.faces) else ""
    return {(6890, SMPL_FACES): "smpl", (10475, SMPLX_FACES): "smplx"}.get((verts, faces), "")


def _spread_over(
    frames: np.ndarray,
    vertices: Float[np.ndarray, "some verts 3"],
    faces: np.ndarray,
    fps: float,
    topology: str,
    camera: Camera | None,
) -> MeshSequence:
    """Missing frames filled in a straight line."""
    every = np.arange(frames[0], frames[-1] + 1)
    if len(every) > LONGEST_GAP * len(frames):
        raise MvaiError(
            f"The person is seen in only {len(frames)} of {len(every)} frames; choose another "
            "--person."
        )
    at = np.interp(every, frames, np.arange(len(frames)))
    low = np.minimum(at.astype(int), max(len(frames) - 2, 0))
    share = (at - low)[:, None, None].astype(np.float32)
    high = np.minimum(low + 1, len(frames) - 1)
    filled = vertices[low] * (1 - share) + vertices[high] * share
    seen = np.isin(every, frames).astype(np.float64)
    return MeshSequence(filled.astype(np.float32), faces, fps, topology, camera, seen)
