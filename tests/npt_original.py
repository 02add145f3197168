"""Neural pose transfer as its authors lay it out, and how much faster ours is.

    python tests/npt_original.py [THREADS] [REPEATS]

prints seconds of both at the published width on 6,890 vertices, in turn and in one process, by the
clock and as processor time.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mvai.body.anny import anny_body
from mvai.nets.npt import Npt, NptSettings
from mvai.nets.npt_fast import FastNpt

BLOCKS = 3
"""How often the two take turns."""


class NaiveSpadain(nn.Module):
    """As published: 1x1 convolutions on (batch, channels, vertices)."""

    def __init__(self, planes: int, norm: bool) -> None:
        super().__init__()
        self.conv_weight = nn.Conv1d(3, planes, 1)
        self.conv_bias = nn.Conv1d(3, planes, 1)
        self.norm = nn.InstanceNorm1d(planes) if norm else nn.Identity()

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        return self.conv_weight(identity) * self.norm(x) + self.conv_bias(identity)


class NaiveBlock(nn.Module):
    def __init__(self, planes: int, norm: bool) -> None:
        super().__init__()
        self.spadain1, self.conv1 = NaiveSpadain(planes, norm), nn.Conv1d(planes, planes, 1)
        self.spadain2, self.conv2 = NaiveSpadain(planes, norm), nn.Conv1d(planes, planes, 1)
        self.spadain_res, self.conv_res = NaiveSpadain(planes, norm), nn.Conv1d(planes, planes, 1)

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        y = self.conv1(self.spadain1(x, identity).relu())
        y = self.conv2(self.spadain2(y, identity).relu())
        return y + self.conv_res(self.spadain_res(x, identity).relu())


class NaiveEncoder(nn.Module):
    def __init__(self, code: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(3, 64, 1), nn.Conv1d(64, 128, 1)
        self.conv3 = nn.Conv1d(128, code, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.conv1, self.conv2, self.conv3):
            x = nn.functional.instance_norm(layer(x)).relu()
        return x.amax(2)


class NaiveDecoder(nn.Module):
    def __init__(self, planes: tuple[int, int, int]) -> None:
        super().__init__()
        a, b, c = planes
        self.conv1, self.spadain_block1 = nn.Conv1d(a, a, 1), NaiveBlock(a, norm=False)
        self.conv2, self.spadain_block2 = nn.Conv1d(a, b, 1), NaiveBlock(b, norm=True)
        self.conv3, self.spadain_block3 = nn.Conv1d(b, c, 1), NaiveBlock(c, norm=True)
        self.conv4 = nn.Conv1d(c, 3, 1)

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        x = self.spadain_block1(self.conv1(x), identity)
        x = self.spadain_block2(self.conv2(x), identity)
        x = self.spadain_block3(self.conv3(x), identity)
        return 2 * self.conv4(x).tanh()


class NaiveNpt(nn.Module):
    """The network as its authors lay it out: the code is repeated for every vertex."""

    def __init__(self, form: NptSettings) -> None:
        super().__init__()
        self.encoder, self.decoder = NaiveEncoder(form.code), NaiveDecoder(form.widths)

    def forward(self, pose: Tensor, identity: Tensor) -> Tensor:
        code = self.encoder(pose.mT)[..., None].expand(-1, -1, identity.shape[1])
        return self.decoder(torch.cat([code, identity.mT], 1), identity.mT).mT


def twins(form: NptSettings, seed: int = 0) -> tuple[NaiveNpt, Npt]:
    torch.manual_seed(seed)
    naive, ours = NaiveNpt(form).eval(), Npt(form).eval()
    ours.load_state_dict({k: v.squeeze(-1) for k, v in naive.state_dict().items()}, strict=True)
    return naive, ours


def body_surface(verts: int) -> Tensor:
    """Vertices of our body about the middle of its bounding box."""
    v = anny_body().template
    v = v[torch.linspace(0, len(v) - 1, verts).long()]
    return v - (v.amax(0) + v.amin(0)) / 2


def seconds(run: Callable[[], Tensor]) -> tuple[float, float]:
    """By the clock and of the processor."""
    wall, own = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - own


@torch.no_grad()
def main(threads: int = 2, repeats: int = 5) -> None:
    """Prints the comparison.

    Frames of a sequence come one after another, so each network runs several times in a row; the
    first time, which finds the memory as the other one left it, does not count.
    """
    torch.set_num_threads(threads)
    naive, ours = twins(NptSettings())
    fast, pose, identity = FastNpt(ours), body_surface(6890), body_surface(6890)
    runs = {
        "original": lambda: naive(pose[None], identity[None])[0],
        "ours": lambda: fast.pose_mesh(fast.encode(pose), identity),
    }
    off = (runs["original"]() - runs["ours"]()).abs().max()
    taken = {name: [] for name in runs}
    for _ in range(BLOCKS):
        for name, run in runs.items():
            run()
            taken[name] += [seconds(run) for _ in range(repeats)]
    print(f"{threads} threads, {BLOCKS} times {repeats} in a row, largest difference {off:.1e}")
    for i, clock in enumerate(("clock", "processor")):
        for kind, of in (("median", statistics.median), ("best", min)):
            a, b = (of(t[i] for t in taken[name]) for name in runs)
            print(f"{clock:9} {kind:6} original {a:.3f} s, ours {b:.3f} s, ratio {a / b:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
