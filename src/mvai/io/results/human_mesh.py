"""Results of human mesh recovery: WHAM, VIBE, 4D-Humans (PHALP), GVHMR, GEM, TRAM, PromptHMR.

The layouts are those that the tools' own demo programs write. Where a tool gives both, the world's
coordinates are taken, not the camera's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mvai.geometry.rigid import transforms
from mvai.io.results.data import (
    T_WORLD_CAMERA,
    T_WORLD_Y_UP,
    BodyParameters,
    chosen_person,
    increasing,
)
from mvai.io.unpickle import read_pickle

Content = Any


def rotations(pose: Any, joints: int | None = None) -> Float[np.ndarray, "frames joints 3 3"]:
    """Rotation matrices from axis-angle vectors, flat or a row a joint, or from matrices."""
    pose = np.asarray(pose, np.float64)
    if pose.shape[-2:] == (3, 3):
        R = pose.reshape(len(pose), -1, 3, 3)
    else:
        vectors = pose.reshape(len(pose), -1, 3)
        R = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*vectors.shape, 3)
    if joints is not None and R.shape[1] != joints:
        raise ValueError(f"{R.shape[1]} joints instead of {joints}")
    return R


def one_shape(betas: Any) -> Float[np.ndarray, " coefficients"]:
    """The mean over the frames: a person has one shape."""
    betas = np.asarray(betas, np.float64)
    return betas.reshape(-1, betas.shape[-1]).mean(0)


def _is_people_of(content: Content, *keys: str) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(v, Mapping) and set(keys) <= v.keys() for v in content.values())
    )


def wham(content: Content, path: Path, person: int) -> BodyParameters:
    """`wham_output.pkl`: {id: {pose_world (T, 72), trans_world (T, 3), betas, frame_ids}}; y up."""
    who = chosen_person({k: len(v["frame_ids"]) for k, v in content.items()}, person, path)
    p = content[who]
    return BodyParameters(
        "WHAM", "smpl", increasing(p["frame_ids"]), rotations(p["pose_world"], 24),
        one_shape(p["betas"]), np.asarray(p["trans_world"], float), T_WORLD_Y_UP[None],
    )  # fmt: skip


def vibe(content: Content, path: Path, person: int) -> BodyParameters:
    """`vibe_output.pkl`: {id: {pose (T, 72), betas, orig_cam (T, 4), frame_ids}}; camera axes.

    `orig_cam` is a weak-perspective camera (s_x, s_y, t_x, t_y) in units of half the picture; with
    the focal length of a 35 mm lens it gives the depth, Z = 2 f / (W s_x).
    """
    who = chosen_person({k: len(v["frame_ids"]) for k, v in content.items()}, person, path)
    p = content[who]
    sx, sy, tx, ty = np.asarray(p["orig_cam"], np.float64).T
    # f / W for a diagonal of 43.3 mm, where s_x / s_y = H / W.
    focal = np.hypot(1.0, sx / sy) * 35.0 / np.hypot(36.0, 24.0)
    return BodyParameters(
        "VIBE", "smpl", increasing(p["frame_ids"]), rotations(p["pose"], 24),
        one_shape(p["betas"]), np.stack([tx, ty, 2 * focal / sx], 1), T_WORLD_CAMERA[None],
    )  # fmt: skip


def phalp(content: Content, path: Path, person: int) -> BodyParameters:
    """4D-Humans' tracks: {frame name: {tid, smpl: [{global_orient, body_pose, betas}], camera}}.

    Rotations are matrices; `camera` is the translation in camera axes.
    """
    tracks: dict[Any, list[tuple[int, Any, Any]]] = {}
    for frame, name in enumerate(sorted(content, key=_natural)):
        row = content[name]
        people = zip(row["tid"], row["smpl"], row["camera"], strict=True)
        for who, smpl, camera in people:
            tracks.setdefault(int(who), []).append((int(row.get("time", frame)), smpl, camera))
    who = chosen_person({k: len(v) for k, v in tracks.items()}, person, path)
    rows = sorted(tracks[who], key=lambda row: row[0])
    R = [
        np.concatenate([np.asarray(s[k], np.float64).reshape(-1, 3, 3)
                        for k in ("global_orient", "body_pose")])
        for _, s, _ in rows
    ]  # fmt: skip
    return BodyParameters(
        "4D-Humans", "smpl", increasing(np.array([f for f, _, _ in rows])),
        rotations(np.stack(R), 24), one_shape([np.ravel(s["betas"]) for _, s, _ in rows]),
        np.stack([np.asarray(c, float).reshape(3) for _, _, c in rows]), T_WORLD_CAMERA[None],
    )  # fmt: skip


def _natural(name: Any) -> tuple:
    return tuple(int(t) if t.isdigit() else t for t in re.split(r"(\d+)", str(name)))


def gvhmr(content: Content, path: Path, person: int) -> BodyParameters:
    """`hmr4d_results.pt` of GVHMR and `smpl_params.pt` of GEM: SMPL-X in world axes, y up."""
    chosen_person({0: 1}, person, path)
    key = "smpl_params_global" if "smpl_params_global" in content else "body_params_global"
    p = content[key]
    pose = np.concatenate([np.asarray(p[k], np.float64) for k in ("global_orient", "body_pose")], 1)
    return BodyParameters(
        "GVHMR" if key == "smpl_params_global" else "GEM", "smplx", np.arange(len(pose)),
        rotations(pose, 22), one_shape(p["betas"]), np.asarray(p["transl"], float),
        T_WORLD_Y_UP[None],
    )  # fmt: skip


def tram(content: Content, path: Path, person: int) -> BodyParameters:
    """`hps/hps_track_k.npy`: SMPL in camera axes; `camera.npy` above it moves it to the world.

    The world of TRAM has the axes of its first camera.
    """
    chosen_person({0: 1}, person, path)
    frames = increasing(content["frame"])
    R = rotations(content["pred_rotmat"], 24)
    t = np.asarray(content["pred_trans"], np.float64).reshape(-1, 3)
    shape = one_shape(content["pred_shape"])
    camera = path.absolute().parent.parent / "camera.npy"
    T = T_WORLD_CAMERA[None]
    if camera.is_file():
        c = read_pickle(camera)
        R_wc, t_wc = (np.asarray(c[k], np.float64)[frames] for k in ("pred_cam_R", "pred_cam_T"))
        T = T_WORLD_CAMERA @ transforms(R_wc, t_wc)
    return BodyParameters("TRAM", "smpl", frames, R, shape, t, T)


def prompt_hmr(content: Content, path: Path, person: int) -> BodyParameters:
    """`results.pkl`: people[id].smplx_world {pose (T, 165), shape, trans}, frames; y up."""
    people = content["people"]
    who = chosen_person({k: len(v["frames"]) for k, v in people.items()}, person, path)
    p = people[who]
    world = p["smplx_world"]
    return BodyParameters(
        "PromptHMR", "smplx", increasing(p["frames"]), rotations(world["pose"], 55),
        one_shape(world["shape"]), np.asarray(world["trans"], float).reshape(-1, 3),
        T_WORLD_Y_UP[None],
    )  # fmt: skip


KINDS: tuple[tuple[Callable[[Content], bool], Callable[..., BodyParameters]], ...] = (
    (lambda c: isinstance(c, Mapping) and isinstance(c.get("people"), Mapping)
     and _is_people_of(c["people"], "smplx_world", "frames"), prompt_hmr),
    (lambda c: isinstance(c, Mapping)
     and bool({"smpl_params_global", "body_params_global"} & c.keys()), gvhmr),
    (lambda c: isinstance(c, Mapping) and {"pred_rotmat", "pred_trans", "frame"} <= c.keys(), tram),
    (lambda c: _is_people_of(c, "pose_world", "trans_world", "betas"), wham),
    (lambda c: _is_people_of(c, "pose", "betas", "orig_cam"), vibe),
    (lambda c: _is_people_of(c, "tid", "smpl", "camera"), phalp),
)  # fmt: skip
"""How the content of a file is told, and what reads it."""
