"""The whole of `mvai train npt`: poses from motion capture, every part, one file of weights."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch

from mvai.benchmark.poses import PoseClip, poses_in_folder
from mvai.benchmark.splits import is_held_out
from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.nets.npt import NptSettings
from mvai.nets.npt_files import TrainedNpt, load_npt, save_npt
from mvai.train.npt import NptTraining, Trained, shipped_form, train_part
from mvai.train.npt_data import ordered_vertices
from mvai.train.npt_devices import Team, in_processes
from mvai.train.npt_poses import PoseBank, pose_bank
from mvai.types import MvaiError

Setting = Literal["shipped", "published"]

PLANS: dict[Setting, tuple[tuple[float, NptTraining], ...]] = {
    "shipped": (
        (0.2, NptTraining("ordered", identities=16, poses=8, verts=96)),
        (0.25, NptTraining("identity")),
        (0.55, NptTraining("pose", points=224)),
    ),
    # The publication's form, batch, rate and data; only the points of a mesh are a sample.
    "published": (
        (1.0, NptTraining("whole", identities=8, poses=1, points=1024, verts=1024,
                          seen_share=1.0, learning_rate=5e-5)),
    ),
}  # fmt: skip
"""Shares of the time and settings of every part."""


def training_clips(data: Path, body: LinearBody, cache: Path) -> list[PoseClip]:
    """The motion capture below a folder without the test people.

    Raises:
        MvaiError: there is none.
    """
    clips = [c for c in poses_in_folder(data, body, cache) if not is_held_out(c.name)]
    if not clips:
        raise MvaiError(f"{data}: there are no clips to train on, only those of test people.")
    return clips


def train_npt(
    data: Path,
    out: Path,
    setting: Setting = "shipped",
    minutes: float = 75.0,
    device: str = "cpu",
    devices: int = 1,
    width: float = 1.0,
    start: Path | None = None,
    report: Callable[[float], None] = lambda share: None,
) -> TrainedNpt:
    """Train on the BVH clips below `data` and write the weights to `out`.

    Checkpoints and logs are kept in `<out>.work`; started again, it goes on from there.

    Args:
        data: folder of motion capture.
        out: file of weights.
        setting: which form and data.
        minutes: time granted, over all parts.
        device: where; on a GPU each part takes the same steps faster.
        devices: on how many devices of that kind; every step sees as many batches
            (`npt_devices.py`).
        width: share of the publication's channels that its form is given.
        start: weights of the same form at which training begins instead of at random.
        report: hears of the share done, 0 to 1.

    Raises:
        MvaiError: a number is too small, there is no such device or not so many, there are no clips
            to train on, or `start` cannot be read or is of another form.
    """
    for name, value in (("minutes", minutes), ("width", width), ("devices", devices)):
        if not 0 < value < float("inf"):
            raise MvaiError(f"{name} {value:g}: nothing can be trained with that; give more.")
    _check_device(device)
    body = anny_body()
    work = out.with_name(out.name + ".work")
    bank = pose_bank(body, training_clips(data, body, work / "clips"))
    form = shipped_form(body) if setting == "shipped" else published_form(width)
    first = None if start is None else load_npt(start)
    if first is not None and first.npt.settings != form:
        raise MvaiError(f"{start}: these weights are of another form; leave out --start.")
    done = 0.0
    for share, part in PLANS[setting]:
        s = replace(part, minutes=minutes * share, device=device)
        if devices > 1:
            in_processes(_train_in_team, devices, device, bank, work, form, s, start)
        else:
            train_part(
                body, bank, work, form, s,
                lambda x, a=done, w=share: report(a + w * min(x, 1.0)),
                start=first,
            )  # fmt: skip
        done += share
        report(done)
    trained = assembled(work, body, form, [s for _, s in PLANS[setting]])
    save_npt(trained, out)
    return trained


def _check_device(device: str) -> None:
    """See that torch can work on a device before any data are prepared for it.

    Raises:
        MvaiError: it cannot.
    """
    try:
        torch.zeros(1, device=device)
    # Builds of torch without a kind of device raise errors of several types for it.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise MvaiError(
            f"{device}: torch has no such device here; give cpu, or cuda where there is one."
        ) from error


def published_form(width: float = 1.0) -> NptSettings:
    """The publication's form with a share of its channels."""
    a, b, c = (max(1, round(width * n)) for n in (1024, 513, 256))
    return NptSettings(code=a, widths=(a + 3, b, c))


def _train_in_team(
    team: Team,
    bank: PoseBank,
    work: Path,
    form: NptSettings,
    settings: NptTraining,
    start: Path | None,
) -> None:
    """What one process of several does."""
    first = None if start is None else load_npt(start)
    train_part(anny_body(), bank, work, form, settings, start=first, team=team)


def assembled(
    work: Path, body: LinearBody, form: NptSettings, parts: list[NptTraining]
) -> TrainedNpt:
    """The running means of all parts as one network.

    Raises:
        MvaiError: a part has no checkpoint.
    """
    whole = Trained(form, len(ordered_vertices(body)))
    record = {}
    for s in parts:
        path = work / f"{s.part}.pt"
        if not path.exists():
            raise MvaiError(f"{path}: this part has not been trained; run `mvai train npt` again.")
        state = torch.load(path, map_location="cpu", weights_only=True)
        one = Trained(form, len(ordered_vertices(body)))
        one.load_state_dict(state["mean"])
        for mine, theirs in zip(whole.trained_in(s.part), one.trained_in(s.part), strict=True):
            mine.load_state_dict(theirs.state_dict())
        record[s.part] = _record(s, state)
    vertices = torch.from_numpy(ordered_vertices(body)) if form.parents else None
    card = {"parts": record, "torch": torch.__version__, "processor": platform.machine()}
    return TrainedNpt(
        whole.npt.eval().requires_grad_(False),
        None if whole.ordered is None else whole.ordered.eval().requires_grad_(False),
        vertices,
        card,
    )


def _record(s: NptTraining, state: dict[str, object]) -> dict[str, object]:
    settings = {k: v for k, v in asdict(s).items() if k != "minutes"}
    minutes = round(float(str(state["spent_s"])) / 60, 1)
    return {**settings, "steps": state["step"], "minutes": minutes}
