"""GraphCMR as published: a ResNet-50 looks at a picture, the graph network regresses the mesh.

The authors' checkpoints hold `graph_cnn` (keys `resnet.*`, `gc.*`, `shape.*`, `camera_fc.*`) and
`smpl_param_regressor` (`layers.*`). Their weights belong to one graph: the camera and the parameter
regressor read the vertices in the order of the authors' `mesh_downsampling.npz`.

Vertices are those of the body model's own files in the axes of the crop's camera (x right, y down,
z forward), metres.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvai.io.mesh_downsampling import MeshDownsampling
from mvai.nets.graph_cnn import GraphCnn
from mvai.nets.parameter_regressor import ParameterRegressor
from mvai.nets.resnet import FEATURE, ResNet50
from mvai.types import MvaiError

PICTURE_PX = 224
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_DEVIATION = (0.229, 0.224, 0.225)
"""Of ImageNet's pictures, red, green and blue from 0 to 1."""


@dataclass(frozen=True)
class ImageGraphCmrSize:
    """Size of the networks; the defaults are those of the published ones."""

    vertices: int = 1723
    channels: int = 256
    layers: int = 5
    regressor: int = 1024
    joints: int = 24
    shape: int = 10


class ImageGraphCmr(nn.Module):
    """Picture encoder, graph network, parameter regressor."""

    def __init__(
        self,
        graph: MeshDownsampling,
        template: Float[np.ndarray, "fine 3"],
        size: ImageGraphCmrSize,
    ) -> None:
        super().__init__()
        coarse = graph.down @ normalised(template)
        self.resnet = ResNet50()
        self.graph_cnn = GraphCnn(graph.adjacency, coarse, FEATURE, size.channels, size.layers)
        self.regressor = ParameterRegressor(coarse, size.joints, size.shape, size.regressor)

    def forward(
        self, pictures: Float[Tensor, "batch 3 224 224"]
    ) -> tuple[
        Float[Tensor, "batch coarse 3"],
        Float[Tensor, "batch 3"],
        Float[Tensor, "batch joints 3 3"],
        Float[Tensor, "batch shape"],
    ]:
        """Coarse mesh, weak-perspective camera (scale, x, y), rotations and shape.

        Args:
            pictures: as `prepared` makes them.
        """
        vertices, camera = self.graph_cnn(self.resnet(pictures))
        matrices, shape = self.regressor(vertices.detach())
        return vertices, camera, proper_rotations(matrices), shape


def prepared(pictures: Float[Tensor, "batch h w 3"]) -> Float[Tensor, "batch 3 224 224"]:
    """Pictures of 0 to 255 as the encoder wants them.

    Scaled by plain bilinear interpolation, without smoothing, like those that it was trained on.
    """
    x = pictures.permute(0, 3, 1, 2).float() / 255
    x = nn.functional.interpolate(x, (PICTURE_PX, PICTURE_PX), mode="bilinear")
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (PIXEL_MEAN, PIXEL_DEVIATION))
    return (x - mean) / deviation


def normalised(template: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Centred on its bounding box and divided by its largest coordinate."""
    centred = template - (template.max(0) + template.min(0)) / 2
    return centred / np.abs(centred).max()


def proper_rotations(matrices: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 3 3"]:
    """Orthogonal factors (U V^T of the SVD), times their determinant as the original does, so that
    none of them mirrors."""
    U, _, Vh = torch.linalg.svd(matrices)
    R = U @ Vh
    return R * torch.linalg.det(R)[..., None, None]


def size_of(checkpoint: Mapping[str, Any]) -> ImageGraphCmrSize:
    """Size of the networks in a checkpoint.

    Raises:
        KeyError: it holds other networks.
    """
    graph, regressor = checkpoint["graph_cnn"], checkpoint["smpl_param_regressor"]
    blocks = [k for k in graph if re.fullmatch(r"gc\.\d+\.lin1\.W", k)]
    width = regressor["layers.0.fc_block.0.weight"].shape[0]
    out = len(regressor["layers.3.bias"])
    return ImageGraphCmrSize(
        vertices=graph["camera_fc.4.weight"].shape[1],
        channels=graph["gc.0.W"].shape[0] // 2,
        layers=len(blocks) - 1,
        regressor=width,
        joints=ImageGraphCmrSize.joints,
        shape=out - 9 * ImageGraphCmrSize.joints,
    )


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """A checkpoint's tensors; a file that holds anything but tensors and containers is refused.

    Raises:
        MvaiError: the file is missing, damaged, unsafe or no checkpoint of GraphCMR.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise MvaiError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError,
            pickle.UnpicklingError) as error:  # fmt: skip
        raise MvaiError(
            f"{path}: this is no file of torch tensors, or it is damaged; download it again."
        ) from error
    try:
        size_of(content)
    except (LookupError, TypeError, AttributeError) as error:
        raise MvaiError(
            f"{path}: this is no checkpoint of GraphCMR (graph_cnn and smpl_param_regressor); "
            "give one of the authors' files, such as model_checkpoint_h36m_up3d_extra2d.pt."
        ) from error
    return content


def load_image_graphcmr(
    path: Path,
    checkpoint: Mapping[str, Any],
    graph: MeshDownsampling,
    template: Float[np.ndarray, "fine 3"],
) -> ImageGraphCmr:
    """The network of a checkpoint, without gradients on its weights.

    Args:
        path: where the checkpoint is from, for messages.
        checkpoint: as `read_checkpoint` gives it.
        graph: the one that it was trained on.
        template: the body's mean surface.

    Raises:
        MvaiError: names or sizes of its tensors are others.
    """
    whole = checkpoint["graph_cnn"]
    prefix = "resnet."
    encoder = {k.removeprefix(prefix): v for k, v in whole.items() if k.startswith(prefix)}
    rest = {k: v for k, v in whole.items() if not k.startswith(prefix)}
    try:
        # Without storage of its own: the tensors of the checkpoint are put in its place.
        with torch.device("meta"):
            network = ImageGraphCmr(graph, template, size_of(checkpoint))
        network.resnet.load_state_dict(encoder, assign=True)
        network.graph_cnn.load_state_dict(rest, assign=True)
        network.regressor.load_state_dict(checkpoint["smpl_param_regressor"], assign=True)
    except (RuntimeError, TypeError, ValueError) as error:
        raise MvaiError(
            f"{path}: its tensors are not those of GraphCMR on a graph of "
            f"{graph.coarse} vertices; give the checkpoint and the graph of one training."
        ) from error
    return network.float().eval().requires_grad_(False)
