"""Neural pose transfer over the many vertices of one identity, without gradients.

Four things make it several times as fast as its layers one after the other, with the same result
but for rounding:

* The last layers of a residual block and the layer after the block are linear with nothing between
  them, so they are one product. Normalisations are part of the factors of the activation after
  them.
* Where a vertex is known by its position alone, all that enters the first block's activations is a
  polynomial of second degree in the position, ten numbers a vertex: the code is the same everywhere
  and both factors of the adaptive normalisation are affine. Vertices are taken in tiles that lie
  close together, and in such a tile most of these polynomials keep their sign. Those that are
  positive go through the following product as ten columns, those that are negative not at all; only
  the few that change sign are multiplied as they are.
* Tiles stay in the processor's cache from one product to the next. Only what goes from one block to
  the next is held for all vertices, and what a normalisation inside a block sees as long as it is
  small; of a larger mesh it is made twice.
* Channels that an activation switches off in a whole tile, nearly half of them, take no part in the
  product after it. Channels come before vertices, so that picking some out copies whole rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvai.nets.npt import Npt, Spadain, SpadainResBlock
from mvai.nets.npt_fast_encoder import encode_points
from mvai.nets.npt_parts import EPSILON, PointNetEncoder
from mvai.nets.npt_tiles import Scratch, spatial_order, tiles_of

TILE = 256
"""Most vertices that go through a block together."""
HELD = 2**24
"""Numbers that may be held for a normalisation inside a block."""

Factors = Float[Tensor, "2*channels known+1"]
"""Of an adaptive normalisation: what both its factors take from what a vertex is known by."""


@dataclass(frozen=True)
class FusedBlock:
    """A residual block and the linear layer after it, whose products are drawn together."""

    factors1: Factors
    factors2: Factors
    factors_res: Factors
    inner: Float[Tensor, "channels channels"]
    """Weight of the layer between both normalisations, transposed,"""
    inner_bias: Float[Tensor, " channels"]
    """and its bias."""
    outer: Float[Tensor, "2*channels out"]
    """What follows the second normalisation and the one of the shortcut."""
    outer_bias: Float[Tensor, " out"]
    normalise: bool

    @staticmethod
    def of(block: SpadainResBlock, after: nn.Linear) -> FusedBlock:
        """`after` of the block's output."""
        W = after.weight.double()
        bias = W @ (block.conv2.bias + block.conv_res.bias).double() + after.bias.double()
        outer = [(W @ c.weight.double()).T.to(after.weight) for c in (block.conv2, block.conv_res)]
        return FusedBlock(
            _factors(block.spadain1), _factors(block.spadain2), _factors(block.spadain_res),
            block.conv1.weight.T.contiguous(), block.conv1.bias,
            torch.cat(outer), bias.to(after.weight), block.normalise,
        )  # fmt: skip


class FastNpt:
    """A network in single precision, prepared; later changes of its weights do not reach it."""

    @torch.no_grad()
    def __init__(self, npt: Npt, tile: int = TILE) -> None:
        self.npt, self.tile = npt, tile
        self.scratch = Scratch()
        decoder = npt.decoder
        self.blocks = [
            FusedBlock.of(block, after)
            for block, after in (
                (decoder.spadain_block1, decoder.conv2),
                (decoder.spadain_block2, decoder.conv3),
                (decoder.spadain_block3, decoder.conv4),
            )
        ]

    @torch.no_grad()
    def encode(self, pose: Float[Tensor, "points 3"]) -> Float[Tensor, " code"]:
        """`Npt.encode` of one mesh."""
        encoder = self.npt.encoder
        if isinstance(encoder, PointNetEncoder):
            return encode_points(encoder, pose, self.tile, self.scratch)
        return encoder(pose)

    @torch.no_grad()
    def pose_mesh(
        self,
        code: Float[Tensor, " code"] | Float[Tensor, "joints 3 4"],
        identity: Float[Tensor, "verts 3"],
        whole: Float[Tensor, " features"] | None = None,
    ) -> Float[Tensor, "verts 3"]:
        """One identity in a pose.

        Args:
            code: from `encode` or `Npt.encode`, or from `Npt.maps` in a form with joints.
            identity: all vertices.
            whole: the identity's code from `Npt.identity_code` of a sample of its surface.
        """
        npt, joints = self.npt, bool(self.npt.settings.parents)
        spans = tiles_of(len(identity), self.tile)
        order = spatial_order(identity, spans[0].stop)
        x = identity[order]
        known = [npt.known(x[s], whole) for s in spans]
        raw = self._decode(npt.code_of_maps(code) if joints else code, known)

        def placed(i: int) -> Tensor:
            blend = npt.blend(code, npt.weights(known[i])) if joints else None
            return npt.placed(raw[i].T, x[spans[i]], blend)

        out = torch.empty_like(identity)
        out[order] = torch.cat([placed(i) for i in range(len(spans))])
        return out

    def _decode(
        self, code: Float[Tensor, " code"], known: list[Float[Tensor, "tile known"]]
    ) -> list[Float[Tensor, "out tile"]]:
        """`Decoder.forward` on tiles; vertices of one should lie close together."""
        decoder = self.npt.decoder
        with_one = [torch.cat([k.new_ones(1, len(k)), k.T]) for k in known]
        entering = torch.cat([decoder.folded(code).T, decoder.conv1.weight[:, decoder.code :]], 1)
        if known[0].shape[1] == 3:
            x = self._first_block_of_positions(entering, with_one)
        else:
            x = self._plain(self.blocks[0], lambda i: entering @ with_one[i], with_one)
        for fused in self.blocks[1:]:
            if fused.normalise:
                x = self._normalised(fused, x, with_one)
            else:
                x = self._plain(fused, lambda i, x=x: x[i], with_one)
        return x

    def _first_block_of_positions(
        self, entering: Float[Tensor, "channels 4"], known: list[Float[Tensor, "4 tile"]]
    ) -> list[Float[Tensor, "out tile"]]:
        block, take = self.blocks[0], self.scratch.take
        channels = len(block.inner)
        Q1, Qr = (_polynomial(f, entering) for f in (block.factors1, block.factors_res))
        outer2, outer_res = block.outer.split(channels)
        tiles = [_monomials(k) for k in known]

        lows, highs = zip(*(self._extremes((Q1, Qr), m) for m in tiles), strict=True)
        low, high = torch.stack(lows), torch.stack(highs)
        changing = (low < 0) & (high > 0)
        # Ten columns for every tile, all through one product.
        always1, always_res = (
            ((low[:, k, None] >= 0) * Q.T).flatten(0, 1).mm(W).unflatten(0, (-1, 10))
            for k, (Q, W) in enumerate(((Q1, block.inner), (Qr, outer_res)))
        )
        always1[:, 0] += block.inner_bias
        always_res[:, 0] += block.outer_bias

        def one(i: int) -> Tensor:
            m, n = tiles[i], tiles[i].shape[1]
            some, some_res = (c.nonzero()[:, 0] for c in changing[i])
            # Left and right of a product stand together what is a polynomial and what is not.
            k = 10 + len(some)
            L, R = take("L", k, channels), take("R", k, n)
            L[:10], R[:10] = always1[i], m
            torch.index_select(block.inner, 0, some, out=L[10:])
            torch.mm(Q1.index_select(0, some), m, out=R[10:]).relu_()
            h = torch.mm(L.T, R, out=take("h", channels, n))
            y = self._adapted(block.factors2, h, known[i])
            on, k = y.amax(1).nonzero()[:, 0], 10 + len(some_res)
            L, R = take("L", k + len(on), len(block.outer_bias)), take("R", k + len(on), n)
            L[:10], R[:10] = always_res[i], m
            torch.index_select(outer_res, 0, some_res, out=L[10:k])
            torch.mm(Qr.index_select(0, some_res), m, out=R[10:k]).relu_()
            torch.index_select(outer2, 0, on, out=L[k:])
            torch.index_select(y, 0, on, out=R[k:])
            return L.T @ R

        return [one(i) for i in range(len(tiles))]

    def _plain(
        self, block: FusedBlock, entering: Callable[[int], Tensor], known: list[Tensor]
    ) -> list[Tensor]:
        """A block without normalisation and the layer after it."""

        def one(i: int) -> Tensor:
            x = entering(i)
            h = self._inner(block, block.factors1, x, known[i])
            h += block.inner_bias[:, None]
            return self._outer(block, block.factors2, block.factors_res, h, x, known[i])

        return [one(i) for i in range(len(known))]

    def _normalised(self, block: FusedBlock, x: list[Tensor], known: list[Tensor]) -> list[Tensor]:
        """A block with normalisation and the layer after it."""
        mean, scale = _merged([self._moments(part) for part in x])
        factors1, factors_res = (
            _normalising(f, mean, scale) for f in (block.factors1, block.factors_res)
        )
        hold = sum(map(torch.numel, x)) <= HELD

        def middle(i: int) -> tuple[_Moments, Tensor | None]:
            h = self._inner(block, factors1, x[i], known[i], hold)
            return self._moments(h), h if hold else None

        made = [middle(i) for i in range(len(x))]
        factors2 = _normalising(block.factors2, *_merged([moments for moments, _ in made]))

        def one(i: int) -> Tensor:
            h = made[i][1]
            if h is None:
                h = self._inner(block, factors1, x[i], known[i])
            return self._outer(block, factors2, factors_res, h, x[i], known[i])

        return [one(i) for i in range(len(x))]

    def _inner(
        self, block: FusedBlock, factors1: Tensor, x: Tensor, known: Tensor, hold: bool = False
    ) -> Tensor:
        """What the second normalisation sees, less the bias that it would take away."""
        L, R = self._switched_on(block.inner, self._adapted(factors1, x, known))
        return torch.mm(L.T, R, out=None if hold else self.scratch.take("h", *x.shape))

    def _outer(
        self, block: FusedBlock, factors2: Tensor, factors_res: Tensor, h: Tensor, x: Tensor,
        known: Tensor,
    ) -> Tensor:  # fmt: skip
        """The rest of a block and the layer after it."""
        outer2, outer_res = block.outer.split(len(x))
        L, R = self._switched_on(outer2, self._adapted(factors2, h, known))
        out = torch.addmm(block.outer_bias[:, None], L.T, R)
        L, R = self._switched_on(outer_res, self._adapted(factors_res, x, known))
        return out.addmm_(L.T, R)

    def _switched_on(
        self, weight: Float[Tensor, "channels out"], y: Float[Tensor, "channels tile"]
    ) -> tuple[Float[Tensor, "on out"], Float[Tensor, "on tile"]]:
        """What takes part in a product of positive parts, less the channels that are zero in the
        whole tile."""
        on = y.amax(1).nonzero()[:, 0]
        L = self.scratch.take("L", len(on), weight.shape[1])
        R = self.scratch.take("R", len(on), y.shape[1])
        return torch.index_select(weight, 0, on, out=L), torch.index_select(y, 0, on, out=R)

    def _adapted(self, factors: Factors, x: Tensor, known: Tensor) -> Tensor:
        """W * x + B of the vertices, its positive part."""
        WB = torch.mm(factors, known, out=self.scratch.take("WB", len(factors), x.shape[1]))
        W, B = WB.unflatten(0, (-1, 2)).unbind(1)
        return B.addcmul_(W, x).relu_()

    def _extremes(
        self, polynomials: tuple[Tensor, Tensor], m: Float[Tensor, "10 tile"]
    ) -> tuple[Float[Tensor, "2 channels"], Float[Tensor, "2 channels"]]:
        """Least and greatest values of polynomials in a tile."""
        values = self.scratch.take("WB", 2 * len(polynomials[0]), m.shape[1])
        for Q, part in zip(polynomials, values.chunk(2), strict=True):
            torch.mm(Q, m, out=part)
        return values.amin(1).unflatten(0, (2, -1)), values.amax(1).unflatten(0, (2, -1))

    def _moments(self, x: Float[Tensor, "channels tile"]) -> _Moments:
        mean = x.mean(1)
        off = torch.sub(x, mean[:, None], out=self.scratch.take("WB", *x.shape))
        return _Moments(x.shape[1], mean, off.square_().sum(1))


@dataclass(frozen=True)
class _Moments:
    """Of a tile's channels."""

    count: int
    mean: Float[Tensor, " channels"]
    spread: Float[Tensor, " channels"]
    """Sum of squared differences from the mean."""


def _merged(
    tiles: list[_Moments],
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Mean over all vertices and 1 / standard deviation, in double precision (Chan et al. 1979)."""
    n = torch.tensor([[t.count] for t in tiles], dtype=torch.double)
    means = torch.stack([t.mean for t in tiles]).double()
    mean = (n * means).sum(0) / n.sum()
    spread = torch.stack([t.spread for t in tiles]).double() + n * (means - mean) ** 2
    return mean, (spread.sum(0) / n.sum() + EPSILON).rsqrt()


def _factors(spadain: Spadain) -> Factors:
    """Rows of W and B in turn, so that the same processor makes both of a channel; the bias is the
    first column."""
    both = spadain.conv_weight, spadain.conv_bias
    W, B = (torch.cat([c.bias[:, None], c.weight], 1) for c in both)
    return torch.stack([W, B], 1).flatten(0, 1)


def _normalising(factors: Factors, mean: Tensor, scale: Tensor) -> Factors:
    """W and B such that W x + B is what they would be of (x - mean) * scale."""
    W, B = factors.double().unflatten(0, (-1, 2)).unbind(1)
    W = W * scale[:, None]
    return torch.stack([W, B - W * mean[:, None]], 1).flatten(0, 1).float()


def _monomials(known: Float[Tensor, "4 tile"]) -> Float[Tensor, "10 tile"]:
    """1, x, y, z, and their products."""
    _, x, y, z = known
    return torch.cat([known, torch.stack([x * x, y * y, z * z, x * y, x * z, y * z])])


def _polynomial(
    factors: Factors, entering: Float[Tensor, "channels 4"]
) -> Float[Tensor, "channels 10"]:
    """Coefficients of W(p) * E(p) + B(p), where `entering` is E."""
    W, B = factors.unflatten(0, (-1, 2)).unbind(1)
    E = entering
    columns = [W[:, 0] * E[:, 0] + B[:, 0]]
    columns += [W[:, i] * E[:, 0] + W[:, 0] * E[:, i] + B[:, i] for i in (1, 2, 3)]
    columns += [W[:, i] * E[:, i] for i in (1, 2, 3)]
    columns += [W[:, i] * E[:, j] + W[:, j] * E[:, i] for i, j in ((1, 2), (1, 3), (2, 3))]
    return torch.stack(columns, 1)
