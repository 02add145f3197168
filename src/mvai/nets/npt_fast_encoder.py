"""The published encoder over the many points of one pose mesh, without gradients.

What enters a normalisation is linear in what the layer before has left, so its moments follow from
the means and products of that, and the widest layer is not held for all points.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mvai.nets.npt_parts import EPSILON, PointNetEncoder
from mvai.nets.npt_tiles import Scratch, spatial_order, tiles_of


def encode_points(
    encoder: PointNetEncoder, points: Float[Tensor, "points 3"], tile: int, scratch: Scratch
) -> Float[Tensor, " code"]:
    """`PointNetEncoder.forward` of one mesh, tile by tile."""
    spans = tiles_of(len(points), tile)
    x = (points - points.mean(0))[spatial_order(points, spans[0].stop)].T
    W1, W2, W3 = (c.weight for c in (encoder.conv1, encoder.conv2, encoder.conv3))
    scale1, shift1 = _normalisation(W1, [_sums(x)])
    y = torch.addmm(shift1[:, None], scale1[:, None] * W1, x).relu_()
    scale2, shift2 = _normalisation(W2, [_sums(y[:, s]) for s in spans])
    W2, W3 = scale2[:, None] * W2, W3.T.contiguous()
    sums, highest = [], []
    for s in spans:
        n = s.stop - s.start
        z = torch.addmm(shift2[:, None], W2, y[:, s], out=scratch.take("R", len(W2), n)).relu_()
        sums.append(_sums(z))
        # Channels that are zero in the whole tile take no part.
        on = z.amax(1).nonzero()[:, 0]
        last = W3.index_select(0, on).T @ z.index_select(0, on)
        highest.append(last.amax(1))
    # Normalisation keeps the order of the points, so only the maximum goes through it.
    scale3, shift3 = _normalisation(W3.T, sums)
    return torch.addcmul(shift3, scale3, torch.stack(highest).amax(0)).relu_()


def _sums(x: Float[Tensor, "channels tile"]) -> Float[Tensor, "channels+1 channels+1"]:
    """Of the products of two channels, the last of which is one."""
    x1 = torch.cat([x, x.new_ones(1, x.shape[1])])
    return x1 @ x1.T


def _normalisation(
    W: Float[Tensor, "out channels"], sums: list[Float[Tensor, "channels+1 channels+1"]]
) -> tuple[Float[Tensor, " out"], Float[Tensor, " out"]]:
    """Scale and shift that normalise W x; a bias would make no difference."""
    means = torch.stack(sums).double().sum(0)
    means = means / means[-1, -1]
    mean = means[-1, :-1]
    covariance = means[:-1, :-1] - torch.outer(mean, mean)
    W = W.double()
    scale = (((W @ covariance) * W).sum(1).clamp(min=0) + EPSILON).rsqrt()
    return scale.float(), (-scale * (W @ mean)).float()
