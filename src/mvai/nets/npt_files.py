"""Weights of neural pose transfer on disk: our own file, and the original's checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mvai.io.atomic import written_whole
from mvai.nets.npt import Npt, NptSettings
from mvai.nets.npt_parts import OrderedEncoder
from mvai.types import MvaiError

WEIGHTS = Path(str(files("mvai"))) / "weights" / "npt.safetensors"


@dataclass(frozen=True)
class TrainedNpt:
    """The network and what was trained with it."""

    npt: Npt
    ordered: OrderedEncoder | None = None
    """Reads joint rotations off a mesh in the body's own topology."""
    ordered_vertices: Int[Tensor, " chosen"] | None = None
    """Which of its vertices, in order."""
    card: Mapping[str, Any] | None = None
    """How it was trained and what was measured."""


def save_npt(trained: TrainedNpt, path: Path) -> None:
    """Write weights in half precision with their settings, whole or not at all."""
    from safetensors.torch import save

    parts = {"npt": trained.npt, "ordered": trained.ordered}
    tensors = {
        f"{name}.{key}": value.detach().half().contiguous()
        for name, module in parts.items()
        if module is not None
        for key, value in module.state_dict().items()
    }
    if trained.ordered_vertices is not None:
        tensors["ordered_vertices"] = trained.ordered_vertices.int().contiguous()
    settings = {"form": asdict(trained.npt.settings), "card": trained.card or {}}
    content = save(tensors, {"settings": json.dumps(settings)})
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


def load_npt(path: Path = WEIGHTS) -> TrainedNpt:
    """Weights written by `save_npt`, in evaluation mode, single precision.

    Raises:
        MvaiError: the file is missing, damaged, or holds other tensors than the network needs.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            settings = json.loads(stored.metadata()["settings"])
            tensors = {k: stored.get_tensor(k) for k in stored.keys()}  # noqa: SIM118
        form = settings["form"]
        lists = {k: tuple(v) for k, v in form.items() if isinstance(v, list)}
        npt = Npt(NptSettings(**{**form, **lists}))
        _fill(npt, "npt", tensors)
        vertices = tensors.get("ordered_vertices")
        ordered = None
        if vertices is not None:
            ordered = OrderedEncoder(len(vertices), 6 * len(npt.settings.parents))
            _fill(ordered, "ordered", tensors)
    except FileNotFoundError as error:
        raise MvaiError(
            f"{path}: the weights of neural pose transfer are missing; install mvai again or make "
            "them with `mvai train npt`."
        ) from error
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise MvaiError(
            f"{path}: these are not weights of neural pose transfer of this version; make them "
            "with `mvai train npt`."
        ) from error
    return TrainedNpt(
        npt.eval().requires_grad_(False),
        None if ordered is None else ordered.eval().requires_grad_(False),
        None if vertices is None else vertices.long(),
        settings["card"],
    )


def _fill(module: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    own = {
        k.removeprefix(f"{name}."): v.float()
        for k, v in tensors.items()
        if k.startswith(f"{name}.")
    }
    module.load_state_dict(own, strict=True)


def load_original(path: Path) -> Npt:
    """A checkpoint of the original repository's max-pooling model (`model_maxpool.py`).

    Its 1x1 convolutions become linear layers; its instance normalisations have no weights. A
    checkpoint that was saved from a parallel wrapper ("module." before every name) will do.

    Raises:
        MvaiError: the file cannot be read or holds other tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {
            k.removeprefix("module."): v.squeeze(-1) if v.dim() == 3 else v
            for k, v in state.items()
        }
        code = tensors["encoder.conv3.bias"].shape[0]
        widths = tuple(tensors[f"decoder.spadain_block{i}.conv1.bias"].shape[0] for i in (1, 2, 3))
        npt = Npt(NptSettings(code=code, widths=(widths[0], widths[1], widths[2])))
        npt.load_state_dict(tensors, strict=True)
    except FileNotFoundError as error:
        raise MvaiError(f"{path}: there is no such checkpoint; check the path.") from error
    except Exception as error:  # torch.load raises whatever a damaged pickle leads to
        raise MvaiError(
            f"{path}: this is not a checkpoint of the original max-pooling network; give the file "
            "that its train.py saves for model_maxpool.py."
        ) from error
    return npt.eval().requires_grad_(False)
