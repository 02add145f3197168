"""Small files in the layouts that other tools write, all of one known motion."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

FRAMES = 12
SHAPE = np.array([0.8, -0.5, 0.3, 0.0, 0.2, 0.0, 0.0, 0.1, 0.0, -0.2])


def motion(joints: int, frames: int = FRAMES, seed: int = 3) -> np.ndarray:
    """Rotation vectors of a movement: every joint swings a little about an axis of its own."""
    rng = np.random.default_rng(seed)
    axes = rng.normal(0, 0.25, (joints, 3))
    axes[0] = [0.1, 0.6, 0.0]
    phase = np.sin(np.linspace(0, 3, frames)[:, None] + np.arange(joints))
    return phase[..., None] * axes


def path_m(frames: int = FRAMES) -> np.ndarray:
    """A walk to the side at two metres' height and four metres' distance."""
    t = np.linspace(0, 1, frames)
    return np.stack([t, 2.0 + 0.1 * np.sin(6 * t), 4.0 + 0.5 * t], 1)


def matrices(pose: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(*pose.shape[:-1], 3, 3)


def wham_content() -> dict:
    pose, move = motion(24), path_m()
    person = {
        "pose": np.zeros((FRAMES, 72)), "trans": np.zeros((FRAMES, 3)),
        "pose_world": pose.reshape(FRAMES, 72), "trans_world": move,
        "betas": np.tile(SHAPE, (FRAMES, 1)), "verts": np.zeros((FRAMES, 5, 3)),
        "frame_ids": np.arange(FRAMES) + 30,
    }  # fmt: skip
    short = {k: v[:4] for k, v in person.items()}
    return {7: short, 3: person}


def write_wham(path: Path) -> Path:
    import joblib

    joblib.dump(wham_content(), path)
    return path


def write_vibe(path: Path) -> Path:
    import joblib

    pose, move = motion(24), path_m()
    # A picture of 1920 x 1080 and the focal length that stands for an unknown one.
    focal = np.hypot(1920, 1080) * 35 / np.hypot(36, 24)
    sx, sy = (2 * focal / (size * move[:, 2]) for size in (1920, 1080))
    person = {
        "pose": pose.reshape(FRAMES, 72), "betas": np.tile(SHAPE, (FRAMES, 1)),
        "verts": np.zeros((FRAMES, 5, 3)), "joints3d": np.zeros((FRAMES, 49, 3)),
        "orig_cam": np.stack([sx, sy, move[:, 0], move[:, 1]], 1),
        "pred_cam": np.zeros((FRAMES, 3)),
        "bboxes": np.zeros((FRAMES, 4)), "frame_ids": np.arange(FRAMES),
    }  # fmt: skip
    joblib.dump({1: person}, path)
    return path


def write_phalp(path: Path) -> Path:
    import joblib

    R, move = matrices(motion(24)), path_m()
    content = {}
    for f in range(FRAMES):
        smpl = {"global_orient": R[f, :1], "body_pose": R[f, 1:], "betas": SHAPE}
        other = {"global_orient": R[0, :1], "body_pose": R[0, 1:], "betas": 0 * SHAPE}
        people = [other, smpl] if f < 5 else [smpl]
        content[f"outputs/_DEMO/img/{f + 1:06d}.jpg"] = {
            "time": f, "tid": [2, 1][-len(people):], "tracked_ids": [1], "smpl": people,
            "camera": [np.zeros(3), move[f]][-len(people):], "shot": 0, "size": [[720, 1280]],
        }  # fmt: skip
    joblib.dump(content, path, compress=3)
    return path


def write_gvhmr(path: Path, gem: bool = False) -> Path:
    pose = torch.from_numpy(motion(22).reshape(FRAMES, 66)).float()
    world = {
        "global_orient": pose[:, :3], "body_pose": pose[:, 3:],
        "betas": torch.from_numpy(np.tile(SHAPE, (FRAMES, 1))).float(),
        "transl": torch.from_numpy(path_m()).float(),
    }  # fmt: skip
    camera = {k: torch.zeros_like(v) for k, v in world.items()}
    K = torch.eye(3).repeat(FRAMES, 1, 1)
    names = ("body_params_global", "body_params_incam") if gem else (
        "smpl_params_global", "smpl_params_incam")  # fmt: skip
    torch.save({names[0]: world, names[1]: camera, "K_fullimg": K, "net_outputs": {}}, path)
    return path


def write_tram(folder: Path) -> Path:
    """`hps/hps_track_0.npy` and the camera beside its folder."""
    (folder / "hps").mkdir(parents=True)
    pred = {
        "pred_cam": torch.zeros(FRAMES, 3), "pred_pose": torch.zeros(FRAMES, 144),
        "pred_shape": torch.from_numpy(np.tile(SHAPE, (FRAMES, 1))).float(),
        "pred_rotmat": torch.from_numpy(matrices(motion(24))).float(),
        "pred_trans": torch.from_numpy(path_m()[:, None]).float(),
        "frame": torch.arange(FRAMES),
    }  # fmt: skip
    np.save(folder / "hps" / "hps_track_0.npy", pred, allow_pickle=True)  # type: ignore[arg-type]
    R = matrices(np.linspace(0, 0.4, FRAMES)[:, None] * [0.0, 1.0, 0.0])
    camera = {
        "pred_cam_R": R, "pred_cam_T": np.linspace(0, 1, FRAMES)[:, None] * [0.3, 0.0, 0.2],
        "img_focal": 1000.0, "img_center": np.array([640.0, 360.0]),
    }  # fmt: skip
    np.save(folder / "camera.npy", camera, allow_pickle=True)  # type: ignore[arg-type]
    return folder / "hps"


def write_prompt_hmr(path: Path) -> Path:
    import joblib

    person = {
        "frames": np.arange(FRAMES), "bboxes": np.zeros((FRAMES, 4)), "track_id": 1,
        "smplx_cam": {"rotmat": np.zeros((FRAMES, 55, 3, 3))},
        "smplx_world": {
            "pose": motion(55).reshape(FRAMES, 165), "shape": np.tile(SHAPE, (FRAMES, 1)),
            "trans": path_m(),
        },
    }  # fmt: skip
    content = {"camera": {}, "people": {1: person}, "timings": {}, "has_tracks": True}
    joblib.dump(content, path)
    return path


def write_amass(path: Path, model: str = "smplh") -> Path:
    pose = motion({"smplh": 52, "smplx": 55}[model]).reshape(FRAMES, -1)
    common = {
        "trans": path_m(), "betas": np.pad(SHAPE, (0, 6)), "gender": np.array("neutral"),
    }  # fmt: skip
    if model == "smplh":
        np.savez(path, **common, poses=pose, mocap_framerate=np.array(60.0),
                 dmpls=np.zeros((FRAMES, 8)))  # fmt: skip
    else:
        np.savez(path, **common, mocap_frame_rate=np.array(120.0), surface_model_type="smplx",
                 root_orient=pose[:, :3], pose_body=pose[:, 3:66], pose_jaw=pose[:, 66:69],
                 pose_eye=pose[:, 69:75], pose_hand=pose[:, 75:])  # fmt: skip
    return path


def write_trc(path: Path, names: list[str], xyz_m: np.ndarray, fps: float) -> Path:
    """Millimetres, a gap as empty cells."""
    frames = len(xyz_m)
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame"
        "\tOrigNumFrames",
        f"{fps}\t{fps}\t{frames}\t{len(names)}\tmm\t{fps}\t1\t{frames}",
        "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t",
        "\t\t" + "\t".join(f"X{i + 1}\tY{i + 1}\tZ{i + 1}" for i in range(len(names))),
        "",
    ]
    for f, row in enumerate(xyz_m):
        cells = ["" if np.isnan(v) else f"{1000 * v:.4f}" for v in row.ravel()]
        lines.append("\t".join([str(f + 1), f"{f / fps:.4f}", *cells]))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_c3d(path: Path, names: list[str], xyz_m: np.ndarray, fps: float, floats: bool) -> Path:
    """Intel byte order, millimetres, two analogue samples a frame that must be skipped."""
    frames, count = xyz_m.shape[:2]
    scale = -0.1 if floats else 0.1

    def parameter(group: int, name: str, kind: int, shape: list[int], data: bytes) -> bytes:
        body = struct.pack("<bB", kind, len(shape)) + bytes(shape) + data + b"\0"
        head = struct.pack("<bb", len(name), group) + name.encode()
        return head + struct.pack("<h", len(body) + 2) + body

    def group(number: int, name: str) -> bytes:
        return struct.pack("<bb", len(name), -number) + name.encode() + struct.pack("<hB", 3, 0)

    width = max(map(len, names))
    labels = "".join(n.ljust(width) for n in names).encode()
    parameters = group(1, "POINT") + group(2, "ANALOG")
    parameters += parameter(1, "USED", 2, [], struct.pack("<h", count))
    parameters += parameter(1, "FRAMES", 2, [], struct.pack("<h", frames))
    parameters += parameter(1, "SCALE", 4, [], struct.pack("<f", scale))
    parameters += parameter(1, "RATE", 4, [], struct.pack("<f", fps))
    parameters += parameter(1, "UNITS", -1, [2], b"mm")
    parameters += parameter(1, "LABELS", -1, [width, count], labels)
    parameters += parameter(2, "USED", 2, [], struct.pack("<h", 2))
    parameters += parameter(2, "RATE", 4, [], struct.pack("<f", fps))
    parameters += bytes(2)
    blocks = -(-(len(parameters) + 4) // 512)
    section = (bytes([1, 0x50, blocks, 84]) + parameters).ljust(512 * blocks, b"\0")
    header = struct.pack("<BB5HfHHf", 2, 0x50, count, 2, 1, frames, 0, scale, blocks + 2, 1, fps)
    data = b""
    for row in xyz_m:
        for p in row:
            gone = np.isnan(p).any()
            mm = np.zeros(3) if gone else 1000 * p
            if floats:
                data += struct.pack("<4f", *mm, -1.0 if gone else 0.0)
            else:
                data += struct.pack("<4h", *np.rint(mm / scale).astype(int), -1 if gone else 0)
        data += struct.pack("<2f" if floats else "<2h", 1, 2)
    path.write_bytes(header.ljust(512, b"\0") + section + data.ljust(-(-len(data) // 512) * 512))
    return path


def write_multi_hmr(folder: Path, T: np.ndarray, phenotypes: np.ndarray) -> Path:
    """A pickle a frame; a second person stands beside in some of them, listed first."""
    folder.mkdir(parents=True)
    for f in range(len(T)):
        beside = T[f].copy()
        beside[:, 0, 3] += 3.0
        people = [beside, T[f]] if f % 2 else [T[f]]
        content = {
            "K": np.array([[1000.0, 0, 640], [0, 1000, 360], [0, 0, 1]]),
            "shape": np.tile(phenotypes, (len(people), 1)),
            "pose_parameters": np.stack(people),
        }
        (folder / f"{f:05d}.pkl").write_bytes(pickle.dumps(content))
    return folder
