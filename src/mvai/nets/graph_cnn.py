"""The graph network of GraphCMR (Kolotouros, Pavlakos and Daniilidis, CVPR 2019).

Module names follow the authors' checkpoints (`gc.1.lin1.W`, `shape.4.W`, `camera_fc.4.weight`), so
that those load as they are. Tensors are (batch, channels, coarse vertices).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_matrix
from torch import Tensor, nn

CHANNELS_PER_GROUP = 8


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)


class GraphLinear(nn.Module):
    """One linear map for every vertex."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        bound = 1 / np.sqrt(into * out)
        self.W = nn.Parameter(torch.empty(out, into).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(out))

    def forward(self, x: Float[Tensor, "batch into n"]) -> Float[Tensor, "batch out n"]:
        return torch.matmul(self.W[None], x) + self.b[None, :, None]


class GraphConvolution(nn.Module):
    """A linear map, then the mean over each vertex and its neighbours (Kipf and Welling 2017)."""

    def __init__(self, into: int, out: int, adjacency: Tensor) -> None:
        super().__init__()
        bound = float(np.sqrt(6 / (into + out)))
        self.weight = nn.Parameter(torch.empty(into, out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out))
        self.register_buffer("adjacency_t", adjacency.T.contiguous(), persistent=False)
        self.adjacency_t: Tensor

    def forward(self, x: Float[Tensor, "batch into n"]) -> Float[Tensor, "batch out n"]:
        y = torch.matmul(self.weight.T[None], x)
        # Dense: at these sizes faster than a sparse product, whose gradient is slow on a CPU.
        return torch.matmul(y, self.adjacency_t) + self.bias[None, :, None]


class GraphResBlock(nn.Module):
    """A bottleneck of linear map, graph convolution and linear map, with a skip connection."""

    def __init__(self, into: int, out: int, adjacency: Tensor) -> None:
        super().__init__()
        self.lin1 = GraphLinear(into, out // 2)
        self.conv = GraphConvolution(out // 2, out // 2, adjacency)
        self.lin2 = GraphLinear(out // 2, out)
        self.skip_conv = GraphLinear(into, out)
        self.pre_norm = _group_norm(into)
        self.norm1 = _group_norm(out // 2)
        self.norm2 = _group_norm(out // 2)
        self.changes_width = into != out

    def forward(self, x: Float[Tensor, "batch into n"]) -> Float[Tensor, "batch out n"]:
        y = self.lin1(torch.relu(self.pre_norm(x)))
        y = self.conv(torch.relu(self.norm1(y)))
        y = self.lin2(torch.relu(self.norm2(y)))
        return y + (self.skip_conv(x) if self.changes_width else x)


class GraphCnn(nn.Module):
    """From one feature vector an image to the vertices of a coarse mesh and a camera.

    The feature is appended to the template coordinates of every vertex. The published width is
    `channels` 256 with `layers` 5 on 1723 vertices and a feature of 2048.
    """

    def __init__(
        self,
        adjacency: csr_matrix,
        template: Float[np.ndarray, "n 3"],
        feature: int,
        channels: int = 256,
        layers: int = 5,
    ) -> None:
        super().__init__()
        A = torch.from_numpy(adjacency.toarray().astype(np.float32))
        self.register_buffer("template", torch.from_numpy(template.T.astype(np.float32)), False)
        self.template: Tensor
        self.gc = nn.Sequential(
            GraphLinear(3 + feature, 2 * channels),
            GraphResBlock(2 * channels, channels, A),
            *(GraphResBlock(channels, channels, A) for _ in range(layers)),
        )
        self.shape = nn.Sequential(
            GraphResBlock(channels, 64, A),
            GraphResBlock(64, 32, A),
            _group_norm(32),
            nn.ReLU(),
            GraphLinear(32, 3),
        )
        self.camera_fc = nn.Sequential(
            _group_norm(channels),
            nn.ReLU(),
            GraphLinear(channels, 1),
            nn.ReLU(),
            nn.Linear(len(template), 3),
        )

    def forward(
        self, feature: Float[Tensor, "batch feature"]
    ) -> tuple[Float[Tensor, "batch n 3"], Float[Tensor, "batch 3"]]:
        """Vertices, and a weak-perspective camera (scale, x, y)."""
        first = self.gc[0]
        assert isinstance(first, GraphLinear)
        # The feature is the same for all vertices: its part of the first map is done once.
        own = first.W[:, :3] @ self.template + first.b[:, None]
        x = own[None] + (feature @ first.W[:, 3:].T)[..., None]
        for block in list(self.gc)[1:]:
            x = block(x)
        return self.shape(x).transpose(1, 2), self.camera_fc(x).flatten(1)
