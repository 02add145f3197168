"""GraphCMR as published (Kolotouros et al., CVPR 2019): from the picture of a person to the body.

For whoever has the authors' checkpoint and SMPL's model file. Key-points only say where the person
is; every frame is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from mvai.body.model import LinearBody
from mvai.body.smpl import smpl_body
from mvai.body.smpl_files import find_model
from mvai.io.mesh_downsampling import MeshDownsampling, read_mesh_downsampling
from mvai.io.video import Video
from mvai.nets.graphcmr_image import (
    ImageGraphCmr,
    load_image_graphcmr,
    prepared,
    read_checkpoint,
    size_of,
)
from mvai.reconstruct import Progress
from mvai.reconstruct.initial import default_focal_px, nearest_seen
from mvai.reconstruct.levelled import levelled, surface, to_level
from mvai.reconstruct.variables import Pose
from mvai.types import Keypoints, MeshSequence, MvaiError
from mvai.types.names import BODY_KEYPOINTS, EXTRA_KEYPOINTS

GRAPH = "mesh_downsampling.npz"
PUBLISHED = "model_checkpoint_h36m_up3d_extra2d.pt"
BLOCK = 8
"""Pictures looked at together."""
MARGIN = 1.2
"""Side of the crop, by the longer side of the key-points' box (the authors' demo)."""
SURE = 0.2
"""Confidence from which a key-point counts for the box (the authors' demo)."""
SMALLEST_SCALE = 0.05
"""A weak-perspective scale below this would be a person of 4 % of the crop: nobody."""
FLIP = np.diag([1.0, -1.0, -1.0])
"""Camera axes to world axes."""


@dataclass(frozen=True)
class GraphCmrImage:
    """Regress SMPL's body from the picture of every frame, with the authors' checkpoint."""

    checkpoint: Path | None = None
    """The authors' file (model_checkpoint_h36m_up3d_extra2d.pt), which is not shipped."""
    body_model_path: Path | None = None
    """SMPL's model file, or the folder that it is in."""
    downsampling: Path | None = None
    """The graph that the checkpoint was trained on, mesh_downsampling.npz of the authors'
    repository; by default the one beside the checkpoint or in the folder above."""
    mesh: Literal["parameters", "graph"] = "parameters"
    """parameters: SMPL's body, one shape for the clip. graph: the vertices that the graph network
    regresses, up-sampled."""

    def check(self) -> None:
        """See `mvai.reconstruct.PictureReconstructor`."""
        self._files()

    def reconstruct_pictures(
        self, keypoints: Keypoints, video: Video, progress: Progress | None = None
    ) -> MeshSequence:
        """See `mvai.reconstruct.PictureReconstructor`."""
        report = progress or (lambda done, total: None)
        body, graph, network = _loaded(*self._files())
        focal_px = default_focal_px(keypoints.width, keypoints.height)
        frames = keypoints.frames
        boxes, found = person_boxes(keypoints)
        with torch.no_grad():
            said = _look(network, video, boxes, found, lambda n: report(round(0.8 * n), frames))
            view = placed(said.camera, boxes, focal_px, keypoints.width, keypoints.height)
            pose = smpl_pose(body, said, view)
            T_level = to_level(body, keypoints, pose, focal_px)
            if self.mesh == "parameters":
                vertices = surface(body, pose, report)
            else:
                vertices = upsampled(graph, said.vertices, view)
        report(frames, frames)
        sequence = levelled(body, vertices, T_level, keypoints, focal_px)
        return replace(sequence, confidence=sequence.confidence * said.known)

    def _files(self) -> tuple[Path, Path, Path]:
        """Checkpoint, model and graph."""
        if self.checkpoint is None:
            raise MvaiError(
                f"graphcmr-image needs the authors' checkpoint ({PUBLISHED}), which mvai does not "
                "ship; name it with --reconstruct.checkpoint."
            )
        if not self.checkpoint.is_file():
            raise MvaiError(f"{self.checkpoint}: there is no such checkpoint; check the path.")
        folder = self.checkpoint.absolute().parent
        choices = [folder / GRAPH, folder.parent / GRAPH]
        if self.downsampling is not None:
            choices = [self.downsampling]
        graph = next((p for p in choices if p.is_file()), None)
        if graph is None:
            raise MvaiError(
                f"{choices[0]}: there is no such file, and the checkpoint can only be read on its "
                f"own graph; put {GRAPH} of GraphCMR's repository there or name it with "
                "--reconstruct.downsampling."
            )
        return self.checkpoint, find_model("smpl", self.body_model_path), graph


@lru_cache(maxsize=1)
def _loaded(
    path: Path, model: Path, graph: Path
) -> tuple[LinearBody, MeshDownsampling, ImageGraphCmr]:
    body = smpl_body(model, "smpl")
    checkpoint = read_checkpoint(path)
    template = body.template.numpy().astype(float)
    downsampling = read_mesh_downsampling(graph, len(template), size_of(checkpoint).vertices)
    return body, downsampling, load_image_graphcmr(path, checkpoint, downsampling, template)


@dataclass(frozen=True)
class Said:
    """What the network says about every frame; unknown ones repeat the nearest known."""

    vertices: Float[np.ndarray, "frames coarse 3"]
    camera: Float[np.ndarray, "frames 3"]
    """Weak perspective in the crop: scale, x, y."""
    rotations: Float[np.ndarray, "frames joints 3 3"]
    shape: Float[np.ndarray, "frames shape"]
    known: Bool[np.ndarray, " frames"]


@dataclass(frozen=True)
class View:
    """From the axes and origin of the network's body to the camera's, in camera axes."""

    R: Float[np.ndarray, "frames 3 3"]
    t: Float[np.ndarray, "frames 3"]


def person_boxes(
    keypoints: Keypoints,
) -> tuple[Int[np.ndarray, "frames 3"], Bool[np.ndarray, " frames"]]:
    """A square around the person in every frame (left, top, side in pixels), and whether there is
    one; frames without take the nearest."""
    names = (*BODY_KEYPOINTS, *EXTRA_KEYPOINTS)
    columns = [i for i, n in enumerate(keypoints.names) if n in names]
    xy = keypoints.xy_px[:, columns]
    sure = np.isfinite(xy).all(-1) & (keypoints.confidence[:, columns] > SURE)
    low = np.where(sure[..., None], xy, np.inf).min(1)
    high = np.where(sure[..., None], xy, -np.inf).max(1)
    found = (sure.sum(1) >= 3) & keypoints.seen()
    found &= (high - low).max(1) >= 2
    if not found.any():
        raise MvaiError(
            "No frame shows three key-points of the body surely enough to crop the person; "
            "use another detector or video."
        )
    low, high = nearest_seen(low, found), nearest_seen(high, found)
    side = np.maximum((high - low).max(1) * MARGIN, 2)
    corner = (low + high) / 2 - side[:, None] / 2
    return np.concatenate([corner, side[:, None]], 1).round().astype(int), found


def crop(image: np.ndarray, box: Int[np.ndarray, "3"]) -> np.ndarray:
    """A square of a picture; black where it goes beyond."""
    left, top, side = (int(v) for v in box)
    out = np.zeros((side, side, 3), np.uint8)
    height, width = image.shape[:2]
    x0, x1 = np.clip([left, left + side], 0, width)
    y0, y1 = np.clip([top, top + side], 0, height)
    out[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return out


def _pictures(
    video: Video, boxes: Int[np.ndarray, "frames 3"], found: Bool[np.ndarray, " frames"]
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """The crops of the frames that show the person, some at a time."""
    ids: list[int] = []
    crops: list[torch.Tensor] = []
    count = 0
    for count, image in enumerate(video.iterate(), 1):
        i = count - 1
        if i < len(found) and found[i]:
            ids.append(i)
            crops.append(prepared(torch.from_numpy(crop(image, boxes[i]))[None]))
        if len(ids) == BLOCK:
            yield ids, torch.cat(crops)
            ids, crops = [], []
    if ids:
        yield ids, torch.cat(crops)
    if count != len(found):
        raise MvaiError(
            f"{video.path}: it has {count} frames and the key-points {len(found)}; "
            "detect them in this video."
        )


def _look(
    network: ImageGraphCmr,
    video: Video,
    boxes: Int[np.ndarray, "frames 3"],
    found: Bool[np.ndarray, " frames"],
    report: Callable[[int], None],
) -> Said:
    """Run the network on every frame that shows the person."""
    known = np.zeros(len(found), bool)
    parts: list[list[np.ndarray]] = []
    for ids, pictures in _pictures(video, boxes, found):
        known[ids] = True
        parts.append([x.numpy() for x in network(pictures)])
        report(ids[-1] + 1)
    some = [np.concatenate(p) for p in zip(*parts, strict=True)]
    every = [np.zeros((len(found), *x.shape[1:]), np.float32) for x in some]
    for whole, x in zip(every, some, strict=True):
        whole[known] = x
    known &= (every[1][:, 0] > SMALLEST_SCALE) & np.all(
        [np.isfinite(x.reshape(len(x), -1)).all(1) for x in every], axis=0
    )
    if not known.any():
        raise MvaiError(
            f"{video.path}: the checkpoint sees nobody in any frame; "
            "check that it is a trained GraphCMR, or use another method."
        )
    vertices, camera, rotations, shape = (nearest_seen(x, known) for x in every)
    return Said(vertices, camera, rotations, shape, known)


def placed(
    camera: Float[np.ndarray, "frames 3"],
    boxes: Int[np.ndarray, "frames 3"],
    focal_px: float,
    width: int,
    height: int,
) -> View:
    """Where the network's body stands before the whole picture's camera.

    The original's t = (x, y, 2 f / (224 s)) holds for a camera that looks at the crop's middle;
    with the crop's side for 224 and the way from the picture's middle to the crop's it is that of
    the whole picture. The body is turned by the angle at which the camera sees the crop.
    """
    scale, side = camera[:, 0].astype(float), boxes[:, 2].astype(float)
    offset = boxes[:, :2] + side[:, None] / 2 - np.array([width / 2, height / 2])
    depth = 2 * focal_px / (side * scale)
    across = camera[:, 1:] + offset * (depth / focal_px)[:, None]
    x, y = (offset / focal_px).T
    yaw, pitch = np.arctan(x), np.arctan(y / np.hypot(1, x))
    R = Rotation.from_euler("YX", np.stack([yaw, -pitch], 1)).as_matrix()
    return View(R, np.concatenate([across, depth[:, None]], 1))


def smpl_pose(body: LinearBody, said: Said, view: View) -> Pose:
    """The body in camera-aligned world axes, with the median shape of the clip."""
    frames = len(said.rotations)
    shape = np.median(said.shape[said.known], axis=0)
    whole = torch.zeros(1, body.shape_size)
    count = min(len(shape), body.shape_size)
    whole[0, :count] = torch.from_numpy(shape[:count])
    R = said.rotations.astype(float)
    R[:, 0] = FLIP @ view.R @ R[:, 0]
    rest_root = body.rest_joints(whole)[0, 0].numpy().astype(float)
    assert body.origin is not None
    # The network counts from the origin of the model's file, about which the view turns.
    root = (rest_root - body.origin.numpy()) @ view.R.transpose(0, 2, 1) + view.t
    t = root @ FLIP - rest_root
    zero = torch.zeros(frames, 21, 3)
    return Pose(
        whole,
        torch.from_numpy(R).float(),
        torch.from_numpy(t).float(),
        zero,
        torch.zeros(frames, 30, 3),
    )


def upsampled(
    graph: MeshDownsampling, vertices: Float[np.ndarray, "frames coarse 3"], view: View
) -> Float[np.ndarray, "frames fine 3"]:
    """The regressed mesh at the body's full number of vertices, in camera-aligned world axes."""
    out = np.empty((len(vertices), graph.fine, 3), np.float32)
    for frame, (v, R, t) in enumerate(zip(vertices, view.R, view.t, strict=True)):
        out[frame] = (graph.up @ v @ R.T + t) @ FLIP
    return out
