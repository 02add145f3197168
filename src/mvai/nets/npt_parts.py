"""Encoders of neural pose transfer: a point set to one code by max pooling."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, relu

EPSILON = 1e-5
"""Added to variances, as in PyTorch's instance normalisation."""
POSE_OCTAVES = 4
IDENTITY_OCTAVES = 6


def moments_of(
    x: Float[Tensor, "*mesh verts channels"],
) -> tuple[Float[Tensor, "*mesh 1 channels"], Float[Tensor, "*mesh 1 channels"]]:
    """Mean over the vertices and 1 / standard deviation.

    Two passes of sums along the vertices run several times as fast as `torch.var_mean`.
    """
    mean = x.mean(-2, keepdim=True, dtype=torch.float32)
    variance = (x - mean.to(x)).square().mean(-2, keepdim=True, dtype=torch.float32)
    return mean, (variance + EPSILON).rsqrt()


def encoded_position(x: Float[Tensor, "*n 3"], octaves: int) -> Float[Tensor, "*n channels"]:
    """x, then sines and cosines of pi 2^k x (Mildenhall et al., ECCV 2020)."""
    scale = torch.pi * 2.0 ** torch.arange(octaves, dtype=torch.float32, device=x.device)
    angle = (x.float()[..., None] * scale).flatten(-2)
    return torch.cat([x.float(), angle.sin(), angle.cos()], -1)


def encoded_size(octaves: int) -> int:
    """Channels of `encoded_position`."""
    return 3 + 6 * octaves


class PointNetEncoder(nn.Module):
    """Three layers shared by all vertices, each instance-normalised, then max pooling."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.conv1 = nn.Linear(3, 64)
        self.conv2 = nn.Linear(64, 128)
        self.conv3 = nn.Linear(128, code)

    def forward(self, points: Float[Tensor, "*mesh points 3"]) -> Float[Tensor, "*mesh code"]:
        x = points
        for layer in (self.conv1, self.conv2):
            x = layer(x)
            mean, scale = moments_of(x)
            x = relu((x - mean.to(x)) * scale.to(x))
        return relu(self._normalised_maximum(x))

    def _normalised_maximum(
        self, x: Float[Tensor, "*mesh points channels"]
    ) -> Float[Tensor, "*mesh code"]:
        """Maximum over the points of the normalised last layer.

        Normalisation keeps the order of the points, so the maximum is taken first. The moments of
        a linear layer follow from those of what enters it.
        """
        mean = x.mean(-2, keepdim=True, dtype=torch.float32)
        centred = x - mean.to(x)
        W = self.conv3.weight
        highest = linear(centred, W).amax(-2).float()
        covariance = (centred.mT @ centred).float() / x.shape[-2]
        variance = ((W @ covariance.to(W)) * W).sum(-1, dtype=torch.float32)
        return (highest * (variance + EPSILON).rsqrt()).to(x)


def centred_scaled(points: Float[Tensor, "*mesh points 3"]) -> Float[Tensor, "*mesh points 3"]:
    """The points about their mean, in units of their root mean square distance from it."""
    x = points.float() - points.float().mean(-2, keepdim=True)
    return x * (x * x).sum(-1, keepdim=True).mean(-2, keepdim=True).clamp(min=1e-12).rsqrt()


class RoundsEncoder(nn.Module):
    """Two rounds of max pooling over points; the second round knows the outcome of the first.

    Knowing the whole, the second round can tell which part of the body a point belongs to and pool
    the parts apart. Training helps it along by asking each point of the second round for its place
    on the body at rest (`places`).
    """

    def __init__(self, code: int, width: int) -> None:
        super().__init__()
        size = encoded_size(POSE_OCTAVES)
        self.point1 = nn.Linear(size, width)
        self.point2 = nn.Linear(width, width)
        self.pool1 = nn.Linear(width, 2 * width)
        self.back1 = nn.Linear(2 * width, width)
        self.point3 = nn.Linear(width, width, bias=False)
        self.point4 = nn.Linear(width, width)
        self.point5 = nn.Linear(width + size, width)
        self.pool2 = nn.Linear(width, 4 * width)
        self.code = nn.Sequential(
            nn.Linear(6 * width, 4 * width), nn.ReLU(), nn.Linear(4 * width, code)
        )
        self.place = nn.Linear(width, 3)

    def forward(self, points: Float[Tensor, "*mesh points 3"]) -> Float[Tensor, "*mesh code"]:
        return self.with_places(points)[0]

    def with_places(
        self, points: Float[Tensor, "*mesh points 3"]
    ) -> tuple[Float[Tensor, "*mesh code"], Float[Tensor, "*mesh points 3"]]:
        """The code, and where on the body at rest each point is taken to belong."""
        e = encoded_position(centred_scaled(points), POSE_OCTAVES).to(self.point1.weight.dtype)
        x = relu(self.point2(relu(self.point1(e))))
        whole = self.pool1(x).amax(-2)
        x = relu(self.point3(x) + self.back1(whole)[..., None, :])
        x = relu(self.point4(x))
        place = self.place(x)
        # The last layer before the pooling sees position and place side by side.
        size = x.shape[-1]
        x = relu(
            linear(x, self.point5.weight[:, :size])
            + linear(e, self.point5.weight[:, size:], self.point5.bias)
        )
        parts = self.pool2(x).amax(-2)
        return self.code(torch.cat([whole, parts], -1)), place


class OrderedEncoder(nn.Module):
    """The same code from the chosen vertices of a body whose topology is known, in their order."""

    def __init__(self, points: int, code: int, width: int = 512) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3 * points, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, code),
        )  # fmt: skip

    def forward(self, points: Float[Tensor, "*mesh points 3"]) -> Float[Tensor, "*mesh code"]:
        x = centred_scaled(points).flatten(-2)
        return self.layers(x.to(next(self.parameters()).dtype))


class IdentityFeatures(nn.Module):
    """What a vertex of the identity is known by, beyond its position."""

    def __init__(self, features: int, width: int = 128) -> None:
        super().__init__()
        self.point1 = nn.Linear(encoded_size(IDENTITY_OCTAVES), width)
        self.pool = nn.Linear(width, features)
        self.point2 = nn.Linear(width, width)
        self.back = nn.Linear(features, width, bias=False)
        self.point3 = nn.Linear(width, features)

    def _first(self, points: Tensor) -> Tensor:
        e = encoded_position(points, IDENTITY_OCTAVES).to(self.point1.weight.dtype)
        return relu(self.point1(e))

    def pooled(self, points: Float[Tensor, "*mesh points 3"]) -> Float[Tensor, "*mesh features"]:
        """The identity's own code."""
        return self.pool(self._first(points)).amax(-2)

    def forward(
        self,
        points: Float[Tensor, "*mesh verts 3"],
        code: Float[Tensor, "*mesh features"],
    ) -> Float[Tensor, "*mesh verts features"]:
        x = relu(self.point2(self._first(points)) + self.back(code)[..., None, :])
        return relu(self.point3(x))
