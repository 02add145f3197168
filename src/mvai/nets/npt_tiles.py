"""Tiles of points that lie close together, and memory that is used again for every tile."""

from __future__ import annotations

import threading

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class Scratch(threading.local):
    """Memory that is used again for every tile, apart for each thread."""

    def take(self, name: str, rows: int, columns: int) -> Float[Tensor, "rows columns"]:
        """What was taken under this name before is overwritten."""
        flat = self.__dict__.get(name)
        if flat is None or flat.numel() < rows * columns:
            flat = self.__dict__[name] = torch.empty(rows * columns)
        return flat.as_strided((rows, columns), (columns, 1))


def tiles_of(count: int, tile: int) -> list[slice]:
    """Equal shares of `count` things, none larger than `tile`."""
    size = -(-count // -(-count // tile))
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def spatial_order(p: Float[Tensor, "verts 3"], tile: int) -> Int[Tensor, " verts"]:
    """An order in which every `tile` vertices lie close together: halves along the longest axis."""
    x = p.numpy()
    pending, done = [np.arange(len(x))], []
    while pending:
        ids = pending.pop()
        if len(ids) <= tile:
            done.append(ids)
            continue
        some = x[ids]
        axis = int(np.ptp(some, axis=0).argmax())
        half = -(-len(ids) // tile) // 2 * tile
        ids = ids[np.argpartition(some[:, axis], half)]
        pending += [ids[half:], ids[:half]]
    return torch.from_numpy(np.concatenate(done))
