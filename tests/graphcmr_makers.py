"""Files in the formats of GraphCMR's authors: a checkpoint and `mesh_downsampling.npz`.

Names and shapes are written down here from the publication's layout, not taken from our networks.
Large tensors are views of one small storage, so that a file of full size takes no room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sparse
import torch

from mvai.geometry.downsampling import downsampling

Shapes = dict[str, tuple[int, ...]]
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def _norm(name: str, width: int) -> Shapes:
    return {
        **{f"{name}.{part}": (width,) for part in BATCH_NORM},
        f"{name}.num_batches_tracked": (),
    }


def resnet_shapes() -> Shapes:
    """torchvision's resnet50."""
    out: Shapes = {"conv1.weight": (64, 3, 7, 7), **_norm("bn1", 64)}
    into = 64
    for stage, (width, blocks) in enumerate(STAGES, 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            for i, (a, b, k) in enumerate(
                ((into, width, 1), (width, width, 3), (width, 4 * width, 1)), 1
            ):
                out[f"{name}.conv{i}.weight"] = (b, a, k, k)
                out |= _norm(f"{name}.bn{i}", b)
            if block == 0:
                out[f"{name}.downsample.0.weight"] = (4 * width, into, 1, 1)
                out |= _norm(f"{name}.downsample.1", 4 * width)
            into = 4 * width
    return {**out, "fc.weight": (1000, 2048), "fc.bias": (1000,)}


def _graph_block(name: str, into: int, out: int) -> Shapes:
    half = out // 2
    shapes: Shapes = {}
    for layer, (a, b) in (
        ("lin1", (into, half)),
        ("lin2", (half, out)),
        ("skip_conv", (into, out)),
    ):
        shapes |= {f"{name}.{layer}.W": (b, a), f"{name}.{layer}.b": (b,)}
    shapes |= {f"{name}.conv.weight": (half, half), f"{name}.conv.bias": (half,)}
    for norm, width in (("pre_norm", into), ("norm1", half), ("norm2", half)):
        shapes |= {f"{name}.{norm}.weight": (width,), f"{name}.{norm}.bias": (width,)}
    return shapes


def graph_cnn_shapes(vertices: int, channels: int, layers: int) -> Shapes:
    """`checkpoint["graph_cnn"]`."""
    out = {f"resnet.{k}": v for k, v in resnet_shapes().items()}
    out |= {"gc.0.W": (2 * channels, 3 + 2048), "gc.0.b": (2 * channels,)}
    out |= _graph_block("gc.1", 2 * channels, channels)
    for i in range(layers):
        out |= _graph_block(f"gc.{i + 2}", channels, channels)
    out |= _graph_block("shape.0", channels, 64) | _graph_block("shape.1", 64, 32)
    out |= {"shape.2.weight": (32,), "shape.2.bias": (32,)}
    out |= {"shape.4.W": (3, 32), "shape.4.b": (3,)}
    out |= {"camera_fc.0.weight": (channels,), "camera_fc.0.bias": (channels,)}
    out |= {"camera_fc.2.W": (1, channels), "camera_fc.2.b": (1,)}
    return {**out, "camera_fc.4.weight": (3, vertices), "camera_fc.4.bias": (3,)}


def regressor_shapes(vertices: int, width: int) -> Shapes:
    """`checkpoint["smpl_param_regressor"]`."""
    out: Shapes = {}
    for name, into in (("layers.0", 6 * vertices), ("layers.1", width), ("layers.2", width)):
        for i in (0,) if name == "layers.0" else (0, 3):
            a = into if i == 0 else width
            out |= {
                f"{name}.fc_block.{i}.weight": (width, a),
                f"{name}.fc_block.{i}.bias": (width,),
            }
            out |= _norm(f"{name}.fc_block.{i + 1}", width)
    return {**out, "layers.3.weight": (226, width), "layers.3.bias": (226,)}


def learned(shapes: Shapes) -> int:
    """Number of parameters, without the statistics of batch normalisation."""
    ends = ("running_mean", "running_var", "num_batches_tracked")
    return sum(int(np.prod(s)) for k, s in shapes.items() if not k.endswith(ends))


def tensors(shapes: Shapes, seed: int = 0) -> OrderedDict[str, torch.Tensor]:
    """Random weights under which signals neither vanish nor explode."""
    rng = torch.Generator().manual_seed(seed)
    pool = torch.randn(2_400_000, generator=rng)
    out: OrderedDict[str, torch.Tensor] = OrderedDict()
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            out[name] = torch.tensor(1)
        elif name.endswith("running_var"):
            # What its input varies by, when the weights before it vary by 1.
            out[name] = torch.full(shape, 0.3 * fan_in(shapes, name))
        elif len(shape) == 1:
            ones = name.endswith("weight") and "norm" not in name
            out[name] = torch.full(shape, 0.4 if ones else 0.05)
        else:
            count = int(np.prod(shape))
            out[name] = pool[:count].view(shape) if count <= len(pool) else pool[:1].expand(shape)
    return out


def fan_in(shapes: Shapes, norm: str) -> int:
    """How many numbers each output of the layer before a normalisation sums up."""
    names = list(shapes)
    before = names[names.index(norm.replace("running_var", "weight")) - 1]
    before = before.replace(".bias", ".weight")
    return int(np.prod(shapes[before][1:]))


def write_checkpoint(
    path: Path,
    vertices: int,
    channels: int,
    layers: int,
    width: int,
    change: Callable[[dict], None] = lambda content: None,
    old_format: bool = False,
) -> Path:
    """A checkpoint as the authors' trainer leaves it.

    Args:
        change: what to do to the content before it is written.
        old_format: that of torch before 1.6, in which theirs are.
    """
    content = {
        "graph_cnn": tensors(graph_cnn_shapes(vertices, channels, layers)),
        "smpl_param_regressor": tensors(regressor_shapes(vertices, width), 1),
        "epoch": 50, "batch_idx": 0, "batch_size": 16, "dataset_perm": [2, 0, 1],
        "total_step_count": 1000,
    }  # fmt: skip
    change(content)
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    return path


def write_mesh_downsampling(
    path: Path, vertices: np.ndarray, faces: np.ndarray, coarse: int
) -> Path:
    """Arrays of pickled SciPy matrices of two levels; adjacency without self-loops."""
    ends = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    n = len(vertices)
    fine = sparse.csc_matrix((np.ones(len(ends)), ends.T), shape=(n, n))
    small = downsampling(vertices, faces, coarse)
    A = sparse.csc_matrix(small.adjacency > 0, dtype=float)
    A.setdiag(0)
    A.eliminate_zeros()
    D = sparse.csc_matrix((np.ones(coarse), (np.arange(coarse), small.kept)), shape=(coarse, n))
    np.savez(
        path, A=objects(fine + fine.T, A), U=objects(sparse.csc_matrix(small.up)), D=objects(D)
    )
    return path


def objects(*matrices: sparse.spmatrix) -> np.ndarray:
    out = np.empty(len(matrices), object)
    for i, m in enumerate(matrices):
        out[i] = m
    return out
