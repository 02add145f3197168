"""mesh2mesh, the paper's module F: a mesh sequence as a cuboid, smoothed by 3D convolutions.

Section 3.2 of Fu, Fu and Jiang, "Can Action be Imitated?" (ICMR 2021): T meshes of N vertices form
a cuboid T x N x 3 with one channel; eight 3D convolutions of kernel 5 x 1 x 3, stride 1 and padding
(2, 0, 1) deform it and leave its volume as it is. The kernel is 1 along the vertices, so the
network does not know how many there are or how they are connected.

The paper does not say how many channels lie between the layers, which activation stands there, or
whether the network gives positions or their correction: `Mesh2MeshSettings` says it.

`Mesh2Mesh` is the form to read and to train. `FoldedMesh2Mesh` computes the same from the same
weights, an order of magnitude faster: with a kernel of 1 along the vertices, a layer is one small
matrix from (taps, channels, coordinates) to (channels, coordinates), the same for every vertex and
frame; vertices lie side by side in memory, and few enough are taken at a time for all layers to
stay in the processor's cache.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

ACTIVATIONS = {
    "relu": torch.relu,
    "leaky-relu": nn.functional.leaky_relu,
    "tanh": torch.tanh,
    "none": lambda x: x,
}
PASSED = {"relu": 1.0, "leaky-relu": 1.01, "tanh": 2.0, "none": 2.0}
"""Slope of activation(x) - activation(-x) at 0."""
NOISE = 0.3
"""Share of the random weights in a fresh low-pass filter, which makes channels differ."""
TILE = 256
"""Vertices that the folded network takes at a time; about 0.3 MB for every layer."""
THREADS = 2
"""Threads of the folded network; each takes its share of the tiles."""


@dataclass(frozen=True)
class Mesh2MeshSettings:
    """The form of the network. The first two defaults are the paper's."""

    kernel: tuple[int, int, int] = (5, 1, 3)
    """Size along time, vertices and coordinates; odd. The paper's ablation: 5x3x3, 3x1x3, 5x1x1."""
    layers: int = 8
    """Convolutions in all. The paper's ablation: 3, 8, 12."""
    width: int = 6
    """Channels between the layers."""
    activation: Literal["relu", "leaky-relu", "tanh", "none"] = "leaky-relu"
    """After each convolution but the last."""
    residual: bool = False
    """The last layer's output is added to the input, instead of being the output."""
    edges: Literal["zero", "replicate"] = "replicate"
    """What stands before and after the clip where a kernel reaches beyond it."""
    start: Literal["low-pass", "random"] = "low-pass"
    """A fresh network is a low-pass filter over time (with `residual`: changes nothing), or random
    (He et al., ICCV 2015)."""

    @property
    def padding(self) -> tuple[int, int, int]:
        """Half the kernel on each side; (2, 0, 1) for the paper's."""
        t, v, c = (k // 2 for k in self.kernel)
        return t, v, c


class Mesh2Mesh(nn.Module):
    """The network as the paper draws it."""

    def __init__(self, settings: Mesh2MeshSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or Mesh2MeshSettings()
        if any(k < 1 or k % 2 == 0 for k in settings.kernel) or settings.layers < 2:
            raise ValueError(f"needs odd kernel sizes and two layers or more, not {settings}")
        if settings.width % 2:
            raise ValueError(f"needs an even number of channels, not {settings.width}")
        channels = [1, *[settings.width] * (settings.layers - 1), 1]
        self.layers = nn.ModuleList(
            nn.Conv3d(a, b, settings.kernel, stride=1, padding=settings.padding)
            for a, b in pairwise(channels)
        )
        self.activation = ACTIVATIONS[settings.activation]
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Fresh weights."""
        s = self.settings
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv3d) and layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, a=0.01, nonlinearity="leaky_relu")
            nn.init.zeros_(layer.bias)
            if s.start == "random":
                continue
            if s.residual:
                # Only the last layer has to be silent for the network to change nothing.
                layer.weight.mul_(0.0 if i == s.layers - 1 else 1.0)
                continue
            # Channels in pairs carry a path and its negative, of which a rectifier lets one pass,
            # so that their difference is the path whatever its sign.
            ins, outs = signs(layer.in_channels), signs(layer.out_channels)
            pairs = 1.0 if i == 0 else 0.5 * layer.in_channels * PASSED[s.activation]
            layer.weight.mul_(NOISE)
            t, v, c = s.padding
            taps = torch.tensor([0.25, 0.5, 0.25]) if t else torch.ones(1)
            reach = len(taps) // 2
            layer.weight[:, :, t - reach : t + reach + 1, v, c] += (
                outs[:, None, None] * ins[None, :, None] * taps / pairs
            )

    def forward(
        self, cuboid: Float[Tensor, "batch frames verts 3"]
    ) -> Float[Tensor, "batch frames verts 3"]:
        """Smoothed vertices."""
        x = cuboid.unsqueeze(1)
        for i, layer in enumerate(self.layers):
            x = self.convolved(layer, x)
            if i + 1 < len(self.layers):
                x = self.activation(x)
        x = x.squeeze(1)
        return cuboid + x if self.settings.residual else x

    def training_forward(
        self, cuboid: Float[Tensor, "batch frames verts 3"]
    ) -> Float[Tensor, "batch frames verts 3"]:
        """The same by folded layers, with gradients; on a CPU it takes two thirds of the time."""
        x = start = cuboid.permute(0, 3, 1, 2)
        mode = "replicate" if self.settings.edges == "replicate" else "constant"
        t, v, _ = self.settings.padding
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv3d)
            kernel, bias = folded(layer)
            longer = nn.functional.pad(x, (0, 0, t, t), mode=mode)
            x = nn.functional.conv2d(longer, kernel, bias, padding=(0, v))
            if i + 1 < len(self.layers):
                x = self.activation(x)
        if self.settings.residual:
            x = x + start
        return x.permute(0, 2, 3, 1)

    def convolved(self, layer: nn.Module, x: Tensor) -> Tensor:
        """One layer. Replicated edges are frames; beyond x and z the padding is always zero."""
        if self.settings.edges == "zero":
            return layer(x)
        assert isinstance(layer, nn.Conv3d)
        t, v, c = self.settings.padding
        longer = nn.functional.pad(x, (0, 0, 0, 0, t, t), mode="replicate")
        return nn.functional.conv3d(longer, layer.weight, layer.bias, padding=(0, v, c))


def signs(channels: int) -> Float[Tensor, " channels"]:
    """1, -1, 1, ... for the channels of a layer."""
    return torch.tensor([1.0, -1.0]).repeat(channels)[:channels]


def folded(
    layer: nn.Conv3d,
) -> tuple[Float[Tensor, "outs ins taps verts"], Float[Tensor, " outs"]]:
    """A 3D convolution as a 2D one over time and vertices, with its biases.

    Its channels are pairs of a channel and a coordinate.
    """
    w = layer.weight
    reach = w.shape[-1] // 2
    # Coordinate c of the output sees coordinate d of the input through tap d - c + reach.
    wide = nn.functional.pad(w, (2, 2))
    rows = [wide[..., 2 + reach - c : 5 + reach - c] for c in range(3)]
    kernel = torch.stack(rows, 1).permute(0, 1, 2, 5, 3, 4).flatten(2, 3).flatten(0, 1)
    assert layer.bias is not None
    return kernel.contiguous(), layer.bias.repeat_interleave(3)


class FoldedMesh2Mesh:
    """Inference with the weights of a `Mesh2Mesh`, the same to rounding."""

    def __init__(self, network: Mesh2Mesh, R: Float[Tensor, "3 3"] | None = None) -> None:
        """Args:
        network: its kernel is 1 along vertices.
        R: rotation from the axes of the given paths to those in which the network works; it is
            multiplied into the first and the last layer and costs nothing.
        """
        if network.settings.kernel[1] != 1:
            raise ValueError("only a kernel of 1 along the vertices can be folded")
        self.settings = network.settings
        with torch.no_grad():
            layers = [folded(m) for m in network.layers if isinstance(m, nn.Conv3d)]
            # Rows: (output channel, coordinate); columns: (tap, input channel, coordinate).
            self.matrices = [k[..., 0].transpose(1, 2).flatten(1).contiguous() for k, _ in layers]
            self.biases = [b[:, None] for _, b in layers]
            if R is not None:
                first = self.matrices[0].unflatten(1, (-1, 3)) @ R
                self.matrices[0] = first.flatten(1).contiguous()
                self.matrices[-1] = R.T @ self.matrices[-1]
                self.biases[-1] = R.T @ self.biases[-1]
        self.activation = IN_PLACE[self.settings.activation]

    def __call__(
        self, paths: Float[Tensor, "frames 3 verts"], threads: int = THREADS
    ) -> Float[Tensor, "frames 3 verts"]:
        """Smoothed paths of any number of vertices."""
        out = torch.empty_like(paths)
        verts = paths.shape[2]
        tile = min(TILE, verts)
        # The last tile overlaps the one before it, so that all have one size.
        begins = [min(begin, verts - tile) for begin in range(0, verts, TILE)]
        threads = min(threads, len(begins))
        if threads <= 1:
            self._run(paths, out, begins, tile)
            return out
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            shares = [begins[i::threads] for i in range(threads)]
            # Listing the results raises what a thread raised.
            list(pool.map(lambda share: self._run(paths, out, share, tile), shares))
        return out

    @torch.no_grad()
    def _run(self, paths: Tensor, out: Tensor, begins: list[int], tile: int) -> None:
        """Smooths the tiles that begin at `begins`."""
        frames = len(paths)
        reach, taps = self.settings.padding[0], self.settings.kernel[0]
        rows = 3 * self.settings.width
        start = torch.zeros(frames + 2 * reach, 3, tile)
        hidden = [torch.zeros(frames + 2 * reach, rows, tile) for _ in range(2)]
        matrices = [m.expand(frames, *m.shape) for m in self.matrices]
        last = len(matrices) - 1
        for begin in begins:
            span = slice(begin, begin + tile)
            start[reach : reach + frames] = paths[:, :, span]
            x = start
            for i, (matrix, bias) in enumerate(zip(matrices, self.biases, strict=True)):
                height = x.shape[1]
                if self.settings.edges == "replicate":
                    x[:reach], x[-reach:] = x[reach], x[-reach - 1]
                # All taps of a frame lie one after the other in memory: a view, not a copy.
                view = x.as_strided((frames, taps * height, tile), (height * tile, tile, 1))
                if i == last:
                    y = torch.baddbmm(bias, matrix, view)
                    if self.settings.residual:
                        y += start[reach : reach + frames]
                    out[:, :, span] = y
                else:
                    x = hidden[i % 2]
                    inner = x[reach : reach + frames]
                    torch.baddbmm(bias, matrix, view, out=inner)
                    self.activation(inner)


IN_PLACE = {
    "relu": torch.relu_,
    "leaky-relu": lambda x: nn.functional.leaky_relu_(x, 0.01),
    "tanh": torch.tanh_,
    "none": lambda x: x,
}
"""The activations again, written over their input."""
