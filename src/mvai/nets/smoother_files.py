"""Files of weights of smoothing networks: the network, its form, and how it is to be used."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from mvai.io.atomic import written_whole
from mvai.nets.windows import Working
from mvai.types import MvaiError

Network = TypeVar("Network", bound=nn.Module)


def save_smoother(
    path: Path, kind: str, network: nn.Module, settings: Any, working: Working,
    training: Mapping[str, Any],
) -> None:  # fmt: skip
    """Writes a network with its settings (a dataclass), whole or not at all.

    Args:
        training: what else is worth knowing: recipe, data, results; anything JSON can hold.
    """
    from safetensors.torch import save

    content = {
        "kind": kind,
        "settings": json.dumps(asdict(settings)),
        "working": json.dumps(asdict(working)),
        "training": json.dumps(dict(training)),
    }
    tensors = {k: v.detach().contiguous() for k, v in network.state_dict().items()}
    with written_whole(path) as temporary:
        temporary.write_bytes(save(tensors, content))


def load_smoother(
    path: Path, kind: str, make: Callable[[Mapping[str, Any]], Network]
) -> tuple[Network, Working]:
    """A trained network, ready for inference.

    Args:
        kind: the kind of network that the file must hold.
        make: the network without weights from the settings that the file holds.

    Raises:
        MvaiError: the file is missing, damaged, of another kind, or does not fit the network.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise MvaiError(
            f"{path}: there are no such weights of {kind}; name another file or install mvai again."
        )
    try:
        with safe_open(path, "pt") as file:
            content = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise MvaiError(
            f"{path}: this is no file of weights, or it is damaged; get it anew."
        ) from error
    if content.get("kind") != kind:
        found = f"weights of {content['kind']}" if "kind" in content else "other weights"
        raise MvaiError(f"{path}: this file holds {found}, not of {kind}; name another.")
    try:
        network = make(json.loads(content["settings"]))
        network.load_state_dict(tensors, strict=True)
        working = Working(**json.loads(content["working"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise MvaiError(
            f"{path}: these weights do not match this version of mvai; train them again or get "
            "those of this version."
        ) from error
    return network.eval().requires_grad_(False), working
