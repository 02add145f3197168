"""Motion capture as AMASS publishes it: an npz of SMPL-H or SMPL-X poses (Mahmood et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mvai.io.results.data import T_WORLD_Z_UP, BodyParameters, chosen_person
from mvai.io.results.human_mesh import one_shape, rotations

MODELS = {24: "smpl", 52: "smplh", 55: "smplx"}


def is_amass(content: Mapping[str, np.ndarray]) -> bool:
    """Whether an npz holds a pose and a path of the SMPL family."""
    return "trans" in content and bool({"poses", "root_orient"} & set(content))


def amass(content: Mapping[str, np.ndarray], path: Path, person: int) -> BodyParameters:
    """Root, body, hands (and jaw, eyes) as axis-angle; z up; metres."""
    chosen_person({0: 1}, person, path)
    if "poses" in content:
        pose = np.asarray(content["poses"])
    else:
        parts = ["root_orient", "pose_body"]
        expressive = "pose_jaw" in content or str(content.get("surface_model_type", "")) == "smplx"
        parts += ["pose_jaw", "pose_eye"] if "pose_jaw" in content else []
        pose = np.concatenate([content[k] for k in parts], 1)
        if expressive and "pose_jaw" not in content:
            pose = np.concatenate([pose, np.zeros((len(pose), 9))], 1)
        if "pose_hand" in content:
            pose = np.concatenate([pose, content["pose_hand"]], 1)
    R = rotations(pose)
    model = str(content.get("surface_model_type", "")) or MODELS.get(R.shape[1], "smplh")
    rate = content.get("mocap_frame_rate", content.get("mocap_framerate"))
    gender = np.asarray(content.get("gender", "neutral")).item()
    gender = gender.decode() if isinstance(gender, bytes) else str(gender)
    return BodyParameters(
        "AMASS", model, np.arange(len(R)), R, one_shape(content["betas"]),
        np.asarray(content["trans"], float), T_WORLD_Z_UP[None], gender,
        None if rate is None else float(rate),
    )  # fmt: skip
