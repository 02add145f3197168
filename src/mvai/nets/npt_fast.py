"""Neural pose transfer over the many vertices of one identity, without gradients.

Three things make it several times as fast as its layers one after the other, with the same result
but for rounding:

* The last layers of a residual block and the layer after the block are linear with nothing between
  them, so they are one product.
* Where a vertex is known by its position alone, all that enters the first block's activations is a
  polynomial of second degree in the position, ten numbers a vertex: the code is the same everywhere
  and both factors of the adaptive normalisation are affine. Vertices are taken in tiles that lie
  close together, and in such a tile most of these polynomials keep their sign. Those that are
  positive go through the following product as ten columns, those that are negative not at all; only
  the few that change sign are multiplied as they are.
* Tiles stay in the processor's cache from one product to the next. Only what goes from one block to
  the next is held for all vertices, and what a normalisation inside a block sees as long as it is
  small; of a larger mesh it is made twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from mvai.nets.npt import Decoder, Npt, Spadain, SpadainResBlock
from mvai.nets.npt_parts import EPSILON

TILE = 256
"""Vertices that go through a block together."""
HELD = 2**24
"""Numbers that may be held for a normalisation inside a block."""


@dataclass(frozen=True)
class FusedBlock:
    """A residual block and the linear layer after it, whose products are drawn together."""

    block: SpadainResBlock
    weight: Float[Tensor, "channels out"]
    weight_res: Float[Tensor, "channels out"]
    bias: Float[Tensor, " out"]

    @staticmethod
    def of(block: SpadainResBlock, after: nn.Linear) -> FusedBlock:
        """`after` of the block's output."""
        W = after.weight.double()
        bias = W @ (block.conv2.bias + block.conv_res.bias).double() + after.bias.double()
        two = ((W @ c.weight.double()).T.to(after.weight) for c in (block.conv2, block.conv_res))
        weight, weight_res = (m.contiguous() for m in two)
        return FusedBlock(block, weight, weight_res, bias.to(after.weight))


class FastNpt:
    """A network in single precision, prepared; later changes of its weights do not reach it."""

    @torch.no_grad()
    def __init__(self, npt: Npt, tile: int = TILE) -> None:
        self.npt, self.tile = npt, tile
        decoder = npt.decoder
        self.decoder: Decoder = decoder
        self.blocks = [
            FusedBlock.of(block, after)
            for block, after in (
                (decoder.spadain_block1, decoder.conv2),
                (decoder.spadain_block2, decoder.conv3),
                (decoder.spadain_block3, decoder.conv4),
            )
        ]
        self.conv1_transposed = decoder.spadain_block1.conv1.weight.T.contiguous()

    @torch.no_grad()
    def pose_mesh(
        self,
        code: Float[Tensor, " code"] | Float[Tensor, "joints 3 4"],
        identity: Float[Tensor, "verts 3"],
        whole: Float[Tensor, " features"] | None = None,
    ) -> Float[Tensor, "verts 3"]:
        """One identity in a pose.

        Args:
            code: from `Npt.encode`, or from `Npt.maps` in a form with joints.
            identity: all vertices.
            whole: the identity's code from `Npt.identity_code` of a sample of its surface.
        """
        npt = self.npt
        order = spatial_order(identity, self.tile)
        x = identity[order]
        spans = [slice(i, i + self.tile) for i in range(0, len(x), self.tile)]
        known = torch.cat([npt.known(x[s], whole) for s in spans])
        if npt.settings.parents:
            raw = self.decode(npt.code_of_maps(code), known, spans)
            blends = [npt.blend(code, npt.weights(known[s])) for s in spans]
            placed = [npt.placed(raw[s], x[s], b) for s, b in zip(spans, blends, strict=True)]
        else:
            raw = self.decode(code, known, spans)
            placed = [npt.placed(raw[s], x[s]) for s in spans]
        out = torch.empty_like(identity)
        out[order] = torch.cat(placed)
        return out

    @torch.no_grad()
    def decode(
        self,
        code: Float[Tensor, " code"],
        known: Float[Tensor, "verts known"],
        spans: list[slice],
    ) -> Float[Tensor, "verts out"]:
        """`Decoder.forward`. Vertices of one span should lie close together."""
        if known.shape[1] == 3:
            x = self._first_block_of_positions(code, known, spans)
        else:
            folded = self.decoder.folded(code)
            x = _plain(
                self.blocks[0], lambda s: self.decoder.first(known[s]) + folded, known, spans
            )
        for fused in self.blocks[1:]:
            if fused.block.normalise:
                x = _normalised(fused, x, known, spans)
            else:
                x = _plain(fused, lambda s, x=x: x[s], known, spans)
        return x

    def _first_block_of_positions(
        self, code: Tensor, p: Float[Tensor, "verts 3"], spans: list[slice]
    ) -> Tensor:
        fused, block = self.blocks[0], self.blocks[0].block
        entering = torch.cat(
            [self.decoder.conv1.weight[:, self.decoder.code :], self.decoder.folded(code).T], 1
        )
        Q1, Qr = (_polynomial(s, entering) for s in (block.spadain1, block.spadain_res))
        monomials = _monomials(p)
        tiles = [monomials[s] for s in spans]
        signs = [[_signs(m @ Q) for m in tiles] for Q in (Q1, Qr)]
        # Ten columns for every tile, all through one product.
        always1, always_res = (
            (Q * torch.stack([always for always, _ in s])[:, None]).flatten(0, 1) @ W
            for Q, s, W in (
                (Q1, signs[0], self.conv1_transposed), (Qr, signs[1], fused.weight_res),
            )
        )  # fmt: skip
        always1, always_res = always1.unflatten(0, (-1, 10)), always_res.unflatten(0, (-1, 10))
        out = p.new_empty(len(p), len(fused.bias))
        for i, (span, m) in enumerate(zip(spans, tiles, strict=True)):
            some, some_res = signs[0][i][1], signs[1][i][1]
            h = torch.addmm(block.conv1.bias, m, always1[i])
            h.addmm_((m @ Q1[:, some]).relu_(), self.conv1_transposed[some])
            y = _adapted(block.spadain2, h, p[span])
            o = out[span]
            torch.addmm(fused.bias, m, always_res[i], out=o)
            o.addmm_((m @ Qr[:, some_res]).relu_(), fused.weight_res[some_res])
            on = (y.amax(0) > 0).nonzero()[:, 0]
            o.addmm_(y[:, on], fused.weight[on])
        return out


def _monomials(p: Float[Tensor, "verts 3"]) -> Float[Tensor, "verts 10"]:
    """1, x, y, z, and their products."""
    x, y, z = p.T
    return torch.stack([torch.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], 1)


def _polynomial(
    spadain: Spadain, entering: Float[Tensor, "channels 4"]
) -> Float[Tensor, "10 channels"]:
    """Coefficients of W(p) * (K p + c) + B(p), where `entering` is K and c side by side."""
    W, w = spadain.conv_weight.weight, spadain.conv_weight.bias
    B, b = spadain.conv_bias.weight, spadain.conv_bias.bias
    K, c = entering[:, :3], entering[:, 3]
    rows = [w * c + b, *(W[:, i] * c + w * K[:, i] + B[:, i] for i in range(3))]
    rows += [W[:, i] * K[:, i] for i in range(3)]
    rows += [W[:, i] * K[:, j] + W[:, j] * K[:, i] for i, j in ((0, 1), (0, 2), (1, 2))]
    return torch.stack(rows)


def _signs(
    values: Float[Tensor, "tile channels"],
) -> tuple[Float[Tensor, " channels"], Int[Tensor, " some"]]:
    """1 for channels that are positive throughout, and the channels that change their sign."""
    low, high = values.amin(0), values.amax(0)
    return (low >= 0).to(values), ((low < 0) & (high > 0)).nonzero()[:, 0]


def _plain(
    fused: FusedBlock, entering: Callable[[slice], Tensor], known: Tensor, spans: list[slice]
) -> Tensor:
    """A block without normalisation and the layer after it."""
    block = fused.block
    out = known.new_empty(len(known), len(fused.bias))
    for s in spans:
        a, k = entering(s), known[s]
        h = block.conv1(_adapted(block.spadain1, a, k))
        torch.addmm(fused.bias, _adapted(block.spadain2, h, k), fused.weight, out=out[s])
        out[s].addmm_(_adapted(block.spadain_res, a, k), fused.weight_res)
    return out


def _normalised(fused: FusedBlock, x: Tensor, known: Tensor, spans: list[slice]) -> Tensor:
    """A block with normalisation and the layer after it; x is overwritten."""
    block = fused.block
    mean, scale = _moments(lambda s: x[s], spans)
    for s in spans:
        x[s].sub_(mean).mul_(scale)

    def middle(s: slice) -> Tensor:
        y = _adapted(block.spadain1, x[s], known[s])
        return linear(y, block.conv1.weight, block.conv1.bias)

    made = [middle(s) for s in spans] if x.numel() <= HELD else None
    inner = middle if made is None else lambda s: made[s.start // len(made[0])]
    mean, scale = _moments(inner, spans)
    out = x.new_empty(len(x), len(fused.bias))
    for s in spans:
        h = inner(s).sub_(mean).mul_(scale)
        torch.addmm(fused.bias, _adapted(block.spadain2, h, known[s]), fused.weight, out=out[s])
        out[s].addmm_(_adapted(block.spadain_res, x[s], known[s]), fused.weight_res)
    return out


def _moments(
    values: Callable[[slice], Tensor], spans: list[slice]
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Mean over all vertices and 1 / standard deviation, tiles merged one by one in double
    precision (Chan et al. 1979)."""
    count, mean, spread = 0, torch.zeros((), dtype=torch.double), torch.zeros(())
    for span in spans:
        x = values(span)
        n = len(x)
        own = x.mean(0)
        variance = (x - own).square_().mean(0)
        delta = own.double() - mean
        total = count + n
        spread = spread + variance.double() * n + delta**2 * (count * n / total)
        mean = mean + delta * (n / total)
        count = total
    return mean.float(), (spread / count + EPSILON).rsqrt().float()


def _adapted(spadain: Spadain, x: Tensor, known: Tensor) -> Tensor:
    """W * x + B of the vertices, its positive part; x is normalised already."""
    return spadain.conv_bias(known).addcmul_(spadain.conv_weight(known), x).relu_()


def spatial_order(p: Float[Tensor, "verts 3"], tile: int) -> Int[Tensor, " verts"]:
    """An order in which every `tile` vertices lie close together: halves along the longest axis."""
    pending, done = [torch.arange(len(p))], []
    while pending:
        ids = pending.pop()
        if len(ids) <= tile:
            done.append(ids)
            continue
        some = p[ids]
        axis = int((some.amax(0) - some.amin(0)).argmax())
        ids = ids[some[:, axis].argsort()]
        half = -(-len(ids) // tile) // 2 * tile
        pending += [ids[half:], ids[:half]]
    return torch.cat(done)
