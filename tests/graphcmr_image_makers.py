"""Small networks of GraphCMR from pictures, with random and with known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from graphcmr_makers import (
    write_checkpoint,
    write_mesh_downsampling,
)
from mvai.types import Keypoints
from smpl_makers import FILES, arrays, write_pickle

COARSE = 120
REGRESSOR = 64
WIDTH, HEIGHT, FRAMES, FPS = 320, 240, 4, 25.0
UPRIGHT = np.diag([1.0, -1.0, -1.0])
"""Turns SMPL's axes (y up, facing +z) into a camera's, so that it stands and faces the camera."""
CAMERA = (0.9, 0.02, -0.2)


def write_files(folder: Path) -> Path:
    """What a user has: SMPL's file, the checkpoint, the graph above it."""
    content = arrays("smpl")
    write_pickle(folder / FILES["smpl"], content)
    (folder / "models").mkdir()
    write_mesh_downsampling(
        folder / "mesh_downsampling.npz", content["v_template"], content["f"].astype(int), COARSE
    )
    write_checkpoint(folder / "models" / "random.pt", COARSE, 64, 2, REGRESSOR)
    write_checkpoint(folder / "models" / "known.pt", COARSE, 64, 2, REGRESSOR, change=known_answer)
    return folder


def known_answer(content: dict) -> None:
    """Whatever the picture, a body upright before the camera."""
    graph, regressor = content["graph_cnn"], content["smpl_param_regressor"]
    R = np.tile(np.eye(3), (24, 1, 1))
    R[0] = UPRIGHT
    graph["camera_fc.4.weight"] = torch.zeros(3, COARSE)
    graph["camera_fc.4.bias"] = torch.tensor(CAMERA)
    graph["shape.4.W"] = torch.zeros(3, 32)
    graph["shape.4.b"] = torch.tensor([0.2, -0.3, 0.0])
    regressor["layers.3.weight"] = torch.zeros(226, REGRESSOR)
    regressor["layers.3.bias"] = torch.from_numpy(np.append(2.0 * R, np.zeros(10))).float()


def seen(left: float = 100.0) -> Keypoints:
    """Somebody who stands still, 160 px tall."""
    places = {
        "nose": (0, 12), "left_shoulder": (18, 30), "right_shoulder": (-18, 30),
        "left_hip": (10, 85), "right_hip": (-10, 85), "left_ankle": (12, 150),
        "right_ankle": (-12, 150), "left_foot_index": (16, 160), "right_foot_index": (-16, 160),
        "left_hand_wrist": (300, 300),
    }  # fmt: skip
    xy = np.array(list(places.values()), float) + np.array([left + 20, 40])
    confidence = np.ones((FRAMES, len(xy)))
    return Keypoints(
        tuple(places), np.tile(xy, (FRAMES, 1, 1)), confidence, FPS, WIDTH, HEIGHT,
    )  # fmt: skip


BOX_SIDE = round((160 - 12) * 1.2)
