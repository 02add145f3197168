"""GraphCMR with a key-point encoder: landmarks of a moment and those around it become a mesh.

The encoder stands where the original has a ResNet-50: a temporal convolutional network over 2D and
metric 3D landmarks with their confidence, the one of `landmark_correction`. What it makes of a
frame, and its corrected landmarks, are the feature from which the graph network regresses a coarse
mesh; a second network reads rotations and shape off that mesh. Unlike the original's it says how
every bone is turned in the crop, not relative to its parent: that can be seen on the bone's own
vertices, and errors do not add up along a limb.

All is relative to the middle of the hips in the axes of a crop on the person: x right, y up, z
towards the viewer, metres.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.geometry.downsampling import Downsampling, downsampling
from mvai.nets.graph_cnn import GraphCnn
from mvai.nets.landmark_correction import POINTS, RATE, LandmarkCorrection, features
from mvai.nets.parameter_regressor import ParameterRegressor
from mvai.types import Keypoints, MvaiError
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS

WEIGHTS = Path(str(files("mvai"))) / "weights" / "graphcmr.safetensors"
ADVICE = "give what `mvai train graphcmr` wrote, or install mvai again"
BLOCK = 16
"""Frames regressed at a time, few enough to stay in the cache."""
CROP_AXES = (1.0, -1.0, -1.0)
"""Turns crop axes with y down and z forward into those used here, and back."""


@dataclass(frozen=True)
class GraphCmrSettings:
    """Size of the networks."""

    vertices: int = 216
    """Of the coarse mesh. The original regresses 1723 of 6890."""
    channels: int = 48
    layers: int = 3
    regressor: int = 384
    """Width of the parameter regressor."""
    encoder: int = 256
    """Width of the key-point encoder."""


@dataclass(frozen=True)
class Regressed:
    """What the network says about some frames."""

    vertices: Float[Tensor, "frames coarse 3"]
    camera: Float[Tensor, "frames 3"]
    """Weak perspective in the crop: scale, x, y."""
    rotations: Float[Tensor, "frames 22 3 3"]
    """Of `BODY_JOINTS`, each relative to its parent."""
    shape: Float[Tensor, "frames shape"]


class GraphCmr(nn.Module):
    """Key-point encoder, graph network, parameter regressor."""

    def __init__(self, body: LinearBody, settings: GraphCmrSettings) -> None:
        super().__init__()
        coarse = coarse_graph(body, settings.vertices)
        template = body.template.numpy()[coarse.kept]
        self.parents = [
            BODY_JOINTS.index(body.joints[body.parents[body.joint(n)]]) for n in BODY_JOINTS[1:]
        ]
        self.encoder = LandmarkCorrection(settings.encoder)
        self.graph_cnn = GraphCnn(
            coarse.adjacency, template, settings.encoder + 3 * POINTS,
            settings.channels, settings.layers,
        )  # fmt: skip
        self.regressor = ParameterRegressor(
            template, len(BODY_JOINTS), body.shape_size, settings.regressor
        )

    def feature(
        self, features: Float[Tensor, "batch frames points 7"]
    ) -> Float[Tensor, "batch frames feature"]:
        """What the graph network is told of each frame."""
        return self.encoded(features)[0]

    def encoded(
        self, features: Float[Tensor, "batch frames points 7"]
    ) -> tuple[Float[Tensor, "batch frames feature"], Float[Tensor, "batch frames points 2"]]:
        """The feature of each frame and the log deviations of the encoder's landmarks."""
        hidden = self.encoder.hidden(features)
        landmarks, deviation = self.encoder.landmarks(features, hidden)
        feature = torch.cat([hidden.transpose(1, 2), landmarks.flatten(2)], dim=-1)
        return feature, deviation

    def mesh(self, feature: Float[Tensor, "frames feature"]) -> Regressed:
        """The regressed body of frames."""
        vertices, camera = self.graph_cnn(feature)
        # As in the original, errors of the parameters do not bend the mesh.
        turned, shape = self.regressor(vertices.detach())
        return Regressed(vertices, camera, self.local(turned), shape)

    def local(self, turned: Float[Tensor, "frames 22 3 3"]) -> Float[Tensor, "frames 22 3 3"]:
        """Rotations relative to the parent from rotations relative to the crop."""
        return torch.cat([turned[:, :1], turned[:, self.parents].mT @ turned[:, 1:]], 1)


@torch.no_grad()
def regress(
    network: GraphCmr, keypoints: Keypoints
) -> tuple[Regressed, Float[np.ndarray, "frames 33 2"]]:
    """The network's word on every frame of a clip, and the deviations of the encoder's landmarks
    (metres, across and along the view).

    Video faster than the encoder was trained on is read at a stride, once for every phase.
    """
    x = torch.from_numpy(features(keypoints))
    frames, stride = len(x), max(1, round(keypoints.fps / RATE))
    parts: list[tuple[slice, Tensor, Tensor]] = []
    for phase in range(min(stride, frames)):
        span = slice(phase, None, stride)
        feature, deviation = network.encoded(x[None, span])
        parts.append((span, feature[0], deviation[0].exp()))
    feature = torch.empty(frames, parts[0][1].shape[1])
    deviation = torch.empty(frames, POINTS, 2)
    for span, f, d in parts:
        feature[span], deviation[span] = f, d
    said = [network.mesh(feature[i : i + BLOCK]) for i in range(0, frames, BLOCK)]
    whole = Regressed(
        *(torch.cat([getattr(r, field.name) for r in said]) for field in fields(Regressed))
    )
    return whole, deviation.numpy()


def regressed_landmarks(
    keypoints: Keypoints, body: LinearBody, network: GraphCmr
) -> tuple[Float[np.ndarray, "frames 33 3"], Float[np.ndarray, "frames 33 2"]]:
    """Landmarks of the regressed bodies, in the form of `landmark_correction.corrected`."""
    said, deviation = regress(network, keypoints)
    rotations = torch.eye(3).repeat(keypoints.frames, len(body.joints), 1, 1)
    rotations[:, [body.joint(n) for n in BODY_JOINTS]] = said.rotations
    still = torch.zeros(keypoints.frames, 3)
    _, points = body.joints_and_keypoints(BODY_KEYPOINTS, said.shape, rotations, still)
    hips = [BODY_KEYPOINTS.index(f"{side}_hip") for side in ("left", "right")]
    points = points - points[:, hips].mean(1, keepdim=True)
    return points.numpy() * np.array(CROP_AXES, np.float32), deviation


def coarse_graph(body: LinearBody, count: int) -> Downsampling:
    """The coarse graph of a body model's mesh."""
    return downsampling(body.template.numpy().astype(np.float64), body.faces, count)


def save_graphcmr(path: Path, network: GraphCmr, settings: GraphCmrSettings) -> None:
    """Write weights and settings; half precision, which changes no result by a tenth of a mm."""
    from safetensors.torch import save_file

    tensors = {k: v.half().contiguous() if v.is_floating_point() else v.contiguous()
               for k, v in network.state_dict().items()}  # fmt: skip
    save_file(tensors, path, {"settings": json.dumps(asdict(settings))})


@lru_cache(maxsize=1)
def shipped_graphcmr() -> GraphCmr:
    """The shipped network on our own body, built once: its coarse graph takes a second."""
    return load_graphcmr(anny_body())


def load_graphcmr(body: LinearBody, path: Path = WEIGHTS) -> GraphCmr:
    """The trained network.

    Raises:
        MvaiError: the file is missing or does not fit the network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            settings = GraphCmrSettings(**json.loads(file.metadata()["settings"]))
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        network = GraphCmr(body, settings)
        network.load_state_dict({k: v.float() if v.is_floating_point() else v
                                 for k, v in tensors.items()})  # fmt: skip
    except FileNotFoundError as error:
        raise MvaiError(f"{path}: GraphCMR's weights are missing; {ADVICE}.") from error
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise MvaiError(
            f"{path}: GraphCMR's weights do not match this version; {ADVICE}."
        ) from error
    return network.eval().requires_grad_(False)
