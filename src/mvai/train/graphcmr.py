"""Train GraphCMR's graph network and parameter regressor on the benchmark.

The losses are the original's (Kolotouros et al. 2019, section 3.4): L1 on vertices, squared errors
of 3D and 2D key-points, of rotation matrices and, with weight 0.1, of shape coefficients; beside
them the L1 error of the vertices that the parameters pose. The encoder comes trained
(`mvai train landmark-correction`) and stays as it is, so a step needs single frames only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvai.benchmark.poses import PoseClip
from mvai.benchmark.scenes import Scene
from mvai.body.model import LinearBody
from mvai.io.atomic import written_whole
from mvai.nets.graphcmr import (
    CROP_AXES,
    GraphCmr,
    GraphCmrSettings,
    coarse_graph,
    save_graphcmr,
)
from mvai.nets.landmark_correction import LandmarkCorrection
from mvai.train.landmark_windows import augmented, random_view
from mvai.train.projected_clips import projected_clips
from mvai.train.true_landmarks import crop_rotation
from mvai.types import Keypoints
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS, mirrored

MIRRORED_JOINTS = [BODY_JOINTS.index(mirrored(n)) for n in BODY_JOINTS]


@dataclass(frozen=True)
class GraphCmrRecipe:
    """How the network is trained."""

    steps: int = 4000
    clips: int = 16
    """Clips a step."""
    frames: int = 5
    """Frames of each clip."""
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    projected: int = 4000
    """Clips that are projected instead of drawn; they make up half of every batch."""
    borrowed: float = 0.7
    """Share of the projected clips with errors that the detector made elsewhere."""
    seed: int = 0


@dataclass(frozen=True)
class Target:
    """The truth of a clip in the axes of a crop on the person (x right, y up, z to the viewer)."""

    rotations: Float[np.ndarray, "frames 22 3 3"]
    shape: Float[np.ndarray, " shape"]

    def of(
        self, frames: np.ndarray, mirror: bool, roll: Float[np.ndarray, "2 2"]
    ) -> tuple[Tensor, Tensor]:
        """Rotations and shape of some frames as seen in a mirror and by a rolled camera."""
        R = torch.from_numpy(self.rotations[frames]).float()
        if mirror:
            swap = torch.tensor([-1.0, 1.0, 1.0])
            R = R[:, MIRRORED_JOINTS] * swap * swap[:, None]
        turn = torch.eye(3)
        # The picture's y points down, here it points up.
        turn[:2, :2] = torch.from_numpy(roll).float() * torch.tensor([[1.0, -1], [-1, 1]])
        R[:, 0] = turn @ R[:, 0]
        return R, torch.from_numpy(self.shape).float().expand(len(R), -1)


def target_of(body: LinearBody, scene: Scene) -> Target:
    """What the network should say of a scene."""
    R = scene.rotations[:, [body.joint(n) for n in BODY_JOINTS]].copy()
    axes = np.diag(CROP_AXES)
    to_crop = axes @ crop_rotation(body, scene) @ scene.camera.T_camera_world[:3, :3]
    R[:, 0] = to_crop @ R[:, 0]
    return Target(R.astype(np.float32), scene.shape)


def coarse_body(body: LinearBody, kept: np.ndarray) -> LinearBody:
    """The body with none but some of its vertices; it regresses no points from them."""
    return replace(
        body,
        template=body.template[kept],
        directions=body.directions[:, kept],
        weight_indices=body.weight_indices[kept],
        weights=body.weights[kept],
    )


def posed(
    body: LinearBody, coarse: LinearBody, rotations: Tensor, shape: Tensor
) -> tuple[Tensor, Tensor]:
    """Coarse vertices and the 33 landmarks, relative to the middle of the hips."""
    full = torch.eye(3).repeat(len(rotations), len(body.joints), 1, 1)
    full[:, [body.joint(n) for n in BODY_JOINTS]] = rotations
    still = torch.zeros(len(rotations), 3)
    _, points = body.joints_and_keypoints(BODY_KEYPOINTS, shape, full, still)
    hips = [BODY_KEYPOINTS.index(f"{side}_hip") for side in ("left", "right")]
    middle = points[:, hips].mean(1, keepdim=True)
    return coarse.vertices(shape, full, still) - middle, points - middle


def train_graphcmr(
    body: LinearBody,
    clips: list[tuple[Scene, Keypoints]],
    captures: list[PoseClip],
    encoder: LandmarkCorrection,
    out: Path,
    settings: GraphCmrSettings | None = None,
    recipe: GraphCmrRecipe | None = None,
    report: Callable[[int, int, float], None] = lambda step, steps, value: None,
) -> GraphCmr:
    """Fit the network to clips of the benchmark and write its weights to `out`."""
    settings = settings or GraphCmrSettings(encoder=encoder.enter.out_channels)
    recipe = recipe or GraphCmrRecipe()
    rng = np.random.default_rng(recipe.seed)
    torch.manual_seed(recipe.seed)
    drawn = len(clips)
    clips = [
        *clips, *projected_clips(body, clips, captures, recipe.projected, recipe.borrowed, rng)
    ]  # fmt: skip
    targets = [target_of(body, scene) for scene, _ in clips]
    network = GraphCmr(body, settings)
    network.encoder.load_state_dict(encoder.state_dict())
    network.encoder.eval().requires_grad_(False)
    coarse = coarse_body(body, coarse_graph(body, settings.vertices).kept)
    learned = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.steps
    )
    network.graph_cnn.train()
    network.regressor.train()
    for step in range(recipe.steps):
        inputs, frames, R, shape = drawn_batch(clips, drawn, targets, recipe, rng)
        with torch.no_grad():
            feature = torch.cat(
                [f[p] for f, p in zip(network.feature(inputs), frames, strict=True)]
            )
            vertices, points = posed(body, coarse, R, shape)
        value = loss(body, coarse, network, feature, R, shape, vertices, points)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        schedule.step()
        report(step, recipe.steps, value.item())
    network.eval()
    with written_whole(out) as temporary:
        save_graphcmr(temporary, network, settings)
    return network.requires_grad_(False)


def drawn_batch(
    clips: Sequence[tuple[Scene, Keypoints]],
    drawn: int,
    targets: Sequence[Target],
    recipe: GraphCmrRecipe,
    rng: np.random.Generator,
) -> tuple[Tensor, list[Tensor], Float[Tensor, "n 22 3 3"], Float[Tensor, "n shape"]]:
    """What the network sees and should say in a step.

    Args:
        clips: those that were drawn, `drawn` of them, then those that were projected; half of the
            batch is of each.
        drawn: see clips.
        targets: of each clip.
        recipe: how many clips, and frames of each.
        rng: draws.

    Returns:
        Windows of key-points, the frames of each that count, and rotations and shape in all of
        these, one after the other.
    """
    half = recipe.clips // 2
    chosen = np.concatenate(
        [rng.integers(0, drawn, half), rng.integers(drawn, len(clips), recipe.clips - half)]
    )
    inputs, frames, rotations, shapes = [], [], [], []
    for i in chosen:
        keypoints, view = clips[i][1], random_view(clips[i][1], rng)
        inputs.append(augmented(keypoints, view, rng))
        picked = rng.integers(0, view.frames, recipe.frames)
        frames.append(torch.from_numpy(picked))
        moments = np.arange(view.span.start, view.span.stop, view.span.step)[picked]
        R, shape = targets[i].of(moments, view.mirror, view.roll)
        rotations.append(R)
        shapes.append(shape)
    return torch.from_numpy(np.stack(inputs)), frames, torch.cat(rotations), torch.cat(shapes)


def loss(
    body: LinearBody,
    coarse: LinearBody,
    network: GraphCmr,
    feature: Float[Tensor, "n feature"],
    R: Float[Tensor, "n 22 3 3"],
    shape: Float[Tensor, "n shape"],
    vertices: Float[Tensor, "n coarse 3"],
    points: Float[Tensor, "n 33 3"],
) -> Tensor:
    """The sum of all losses (metres)."""
    said = network.mesh(feature)
    own_vertices, own_points = posed(body, coarse, said.rotations, said.shape)
    scale, shift = said.camera[:, None, :1], said.camera[:, None, 1:]
    # A body of about a metre around the middle of the hips fills the crop.
    picture = scale * said.vertices[..., :2] + shift
    return (
        (said.vertices - vertices).abs().mean() * 10
        + (own_vertices - vertices).abs().mean() * 10
        + (own_points - points).norm(dim=-1).mean() * 10
        + (picture - vertices[..., :2]).square().mean()
        + (said.rotations - R).square().mean() * 2
        + 0.1 * (said.shape - shape).square().mean()
    )
