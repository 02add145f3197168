"""Train neural pose transfer; `mvai train npt` is its command.

A form with a free code is trained as a whole, as published: squared error of the posed vertices
plus the edge term. A form whose code is read as joint rotations comes apart into pieces that learn
side by side, each from the true values of what it is given, which makes a step many times cheaper:

* "pose": the max-pooling encoder. Its rotations move the mean body; the error of that surface is
  the loss. Each point is also asked for its place on the body at rest.
* "ordered": the encoder for meshes in the body's own topology, the same loss.
* "identity": the joint finder, the vertex features and the decoder, from true rotations. Besides
  the error of the posed vertices and the edge term, the true joints and skin weights are asked for.

The schedule follows the time that was granted, and a run goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mvai.body.model import LinearBody
from mvai.io.atomic import written_whole
from mvai.nets.npt import Npt, NptSettings
from mvai.nets.npt_files import TrainedNpt
from mvai.nets.npt_parts import OrderedEncoder, RoundsEncoder
from mvai.nets.npt_skeleton import kinematics, rotations_from
from mvai.train.npt_data import Identities, Maker, Poses
from mvai.train.npt_devices import Alone, Team
from mvai.train.npt_poses import PoseBank

Part = Literal["whole", "pose", "ordered", "identity"]


def shipped_form(body: LinearBody) -> NptSettings:
    """What is shipped."""
    return NptSettings(
        code=256, widths=(256, 128, 64), encoder="rounds", identity="features", features=48,
        normalise=False, output="blended", parents=body.parents,
        arms=(body.joint("LeftArm"), body.joint("RightArm")),
    )  # fmt: skip


@dataclass(frozen=True)
class NptTraining:
    """How one part is trained."""

    part: Part = "whole"
    minutes: float = 60.0
    """Time granted; the learning rate falls to zero at its end."""
    identities: int = 8
    poses: int = 4
    """Identities in a batch, and poses for each; their product is the batch of pose meshes."""
    points: int = 320
    """Points of a pose mesh."""
    verts: int = 192
    """Vertices of an identity."""
    seen_share: float = 0.25
    """Share of identities and poses from the published numbers."""
    learning_rate: float = 1.5e-3
    warm_up: int = 300
    """Steps over which the learning rate rises."""
    edge_weight: float = 0.0005
    average: float = 0.999
    """Decay of the running mean of the weights, which is what is kept in the end."""
    device: str = "cpu"
    seed: int = 0


class Trained(nn.Module):
    """The network and the encoder for known order."""

    def __init__(self, form: NptSettings, ordered: int) -> None:
        super().__init__()
        self.npt = Npt(form)
        self.ordered = OrderedEncoder(ordered, 6 * len(form.parents)) if form.parents else None

    def trained_in(self, part: Part) -> list[nn.Module]:
        """What a part's loss moves."""
        if part == "whole":
            return [self.npt]
        if part == "pose":
            return [self.npt.encoder, self.npt.rotations]
        if part == "ordered":
            assert self.ordered is not None
            return [self.ordered]
        n = self.npt
        return [n.joint_finder, n.identity_features, n.skin_weights, n.decoder]


# --- Losses: weighted terms; those that begin with "pmd" are measures in square metres ------------

Terms = dict[str, Tensor]


def surface_terms(maker: Maker, R_local: Tensor, truth: Tensor, ids: Tensor) -> Terms:
    """Error of the mean body's surface under some rotations and of the rotations themselves."""
    body = maker.body
    joints = body.joint_template.to(R_local.device)
    offsets = joints - joints[[max(p, 0) for p in body.parents]]
    offsets = torch.cat([joints[:1], offsets[1:]])
    Rs, ts = kinematics(body.parents, torch.stack([R_local, truth]), offsets)
    t = ts - (Rs @ joints[..., None])[..., 0]
    A = torch.cat([Rs, t[..., None]], -1).flatten(-2)
    M = (body.dense_weights[ids].to(A) @ A).unflatten(-1, (3, 4))
    v = (M[..., :3] @ body.template[ids].to(A)[..., None])[..., 0] + M[..., 3]
    pmd = ((v[0] - v[1]) ** 2).mean()
    return {
        "vertices": 40 * pmd,
        "rotations": 0.05 * ((R_local - truth) ** 2).mean(),
        "pmd": pmd,
    }


def pose_terms(model: Trained, maker: Maker, b: Poses, ids: Tensor) -> Terms:
    """The max-pooling encoder."""
    npt, extra = model.npt, {}
    with _half(b.points):
        if isinstance(npt.encoder, RoundsEncoder):
            code, place = npt.encoder.with_places(b.points)
            extra = {"places": 0.5 * ((place.float() - b.places) ** 2).mean()}
        else:
            code = npt.encode(b.points)
        out = npt.rotations(code)
    return {**surface_terms(maker, rotations_from(out), b.rotations, ids), **extra}


def ordered_terms(model: Trained, maker: Maker, b: Poses, ids: Tensor) -> Terms:
    """The encoder for known order."""
    assert model.ordered is not None
    with _half(b.ordered):
        out = model.ordered(b.ordered)
    return surface_terms(maker, rotations_from(out), b.rotations, ids)


def vertex_terms(out: Tensor, b: Identities, edge_weight: float) -> Terms:
    """Error of the posed identity, and the publication's edge term."""
    error = ((out - b.target) ** 2).mean((-1, -2))
    pmd = (error * b.height[:, None] ** 2).mean()
    terms = {"vertices": 100 * error.mean(), "pmd": pmd}
    n = 2 * b.edge_pairs
    if n and edge_weight:
        after, before = (
            (e[..., 0, :] - e[..., 1, :]).norm(dim=-1)
            for e in (x[..., -n:, :].unflatten(-2, (-1, 2)) for x in (out, b.identity))
        )
        # Summed over the three edges of a face; 40 brings the term to the scale of "vertices".
        stretch = (after / before.clamp(min=1e-4) - 1).abs().mean()
        terms["edges"] = 40 * edge_weight * 3 * stretch
    return terms


def identity_terms(model: Trained, b: Identities, edge_weight: float) -> Terms:
    """All that concerns the identity, from true rotations."""
    npt = model.npt
    with _half(b.identity):
        known = npt.known(b.identity, npt.identity_code(b.identity))
        joints = npt.joint_finder(b.identity)
        weights = npt.weights(known)
    maps = npt.maps(b.rotations, joints)
    with _half(b.identity):
        out = npt.decoder(npt.code_of_maps(maps), known)
    out = npt.placed(out, b.identity, npt.blend(maps, weights))
    M = (weights @ maps.flatten(-2)).unflatten(-1, (3, 4))
    skinned = (M[..., :3] @ b.identity[..., None])[..., 0] + M[..., 3]
    plain = ((skinned - b.target) ** 2).mean((-1, -2))
    return {
        **vertex_terms(out, b, edge_weight),
        "joints": 100 * ((joints.positions - b.joints) ** 2).mean(),
        "lift": 1.0 * ((joints.lift - b.lift) ** 2).mean(),
        "weights": 5.0 * ((weights - b.weights) ** 2).sum(-1).mean(),
        "skinned": 30 * plain.mean(),
        "pmd skinned": (plain * b.height[:, None] ** 2).mean(),
    }


def whole_terms(model: Trained, poses: Poses, b: Identities, edge_weight: float) -> Terms:
    """A network with a free code, pose mesh to posed identity."""
    npt = model.npt
    with _half(b.identity):
        known = npt.known(b.identity, npt.identity_code(b.identity))
        out = npt.decoder(npt.encode(poses.points.unflatten(0, b.target.shape[:2])), known)
    return vertex_terms(npt.placed(out, b.identity), b, edge_weight)


def _half(x: Tensor) -> torch.autocast:
    """Layers run in half precision; chains of rotations between them do not."""
    return torch.autocast(x.device.type, torch.bfloat16)


# --- The loop -----------------------------------------------------------------------------------


def train_part(
    body: LinearBody,
    bank: PoseBank,
    work: Path,
    form: NptSettings,
    settings: NptTraining,
    report: Callable[[float], None] = lambda share: None,
    every_s: float = 60.0,
    start: TrainedNpt | None = None,
    team: Team | None = None,
) -> Trained:
    """Train one part, or go on training it; checkpoint and log are kept in `work`.

    Without a checkpoint it begins at the weights of `start`, or at random. With a team it is one of
    the processes that train together.

    Returns: the running mean of the weights; only the part's own are trained.
    """
    s, team = settings, team or Alone(settings.device)
    work.mkdir(parents=True, exist_ok=True)
    points = 0 if s.part == "ordered" else s.points
    maker = Maker(body, bank, points, s.verts, seen_share=s.seen_share)
    run = _Run(form, s, team, len(maker.ordered), work, start)
    rng = np.random.default_rng([s.seed, run.step, team.rank])
    sums: dict[str, float] = {}
    count, last = 0, time.perf_counter()
    while (share := team.agreed(run.seconds() / (60 * s.minutes))) < 1:
        terms = _terms(run.model, maker, s, team.device, rng)
        rate = run.take_step(terms, share)
        for k, v in terms.items():
            sums[k] = sums.get(k, 0.0) + float(v.detach())
        count += 1
        report(share)
        if team.rank == 0 and time.perf_counter() - last > every_s:
            run.keep()
            run.note({"rate": rate} | {k: v / count for k, v in sums.items()})
            sums, count, last = {}, 0, time.perf_counter()
    if team.rank == 0:
        run.keep()
    return run.mean.eval().requires_grad_(False)


class _Run:
    """The training of a part on its way: all that a checkpoint holds, and where that is kept."""

    def __init__(
        self,
        form: NptSettings,
        settings: NptTraining,
        team: Team,
        ordered: int,
        work: Path,
        start: TrainedNpt | None,
    ) -> None:
        s = self.settings = settings
        self.team = team
        torch.manual_seed(s.seed)
        self.model, self.mean = (Trained(form, ordered).to(team.device) for _ in range(2))
        if start is not None:
            self.model.npt.load_state_dict(start.npt.state_dict())
            if self.model.ordered is not None and start.ordered is not None:
                self.model.ordered.load_state_dict(start.ordered.state_dict())
        self.mean.load_state_dict(self.model.state_dict())
        self.own, self.own_mean = (
            [p for m in model.trained_in(s.part) for p in m.parameters()]
            for model in (self.model, self.mean)
        )
        self.optimiser = torch.optim.AdamW(self.own, s.learning_rate, weight_decay=1e-4)
        self.checkpoint, self.log = work / f"{s.part}.pt", work / f"{s.part}.jsonl"
        settled = {k: v for k, v in asdict(s).items() if k not in ("minutes", "device")}
        self.stamp = json.dumps([asdict(form), settled])
        self.step, spent = 0, 0.0
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, map_location=team.device, weights_only=True)
            if state["stamp"] == self.stamp:
                self.step, spent = state["step"], state["spent_s"]
                self.model.load_state_dict(state["model"])
                self.mean.load_state_dict(state["mean"])
                self.optimiser.load_state_dict(state["optimiser"])
        self.began = time.perf_counter() - spent

    def seconds(self) -> float:
        """Spent so far, in earlier processes too."""
        return time.perf_counter() - self.began

    def take_step(self, terms: Terms, share: float) -> float:
        """Down the gradient of the terms, at the rate for a share of the time, which is returned;
        the running mean follows."""
        s = self.settings
        rate = s.learning_rate * min(1.0, (self.step + 1) / s.warm_up)
        rate *= max(1e-3, 0.5 * (1 + math.cos(math.pi * share)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        total = sum(v for k, v in terms.items() if not k.startswith("pmd"))
        assert isinstance(total, Tensor)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.team.average(self.own)
        nn.utils.clip_grad_norm_(self.own, 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(s.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for averaged, p in zip(self.own_mean, self.own, strict=True):
                averaged.lerp_(p, 1 - decay)
        return rate

    def keep(self) -> None:
        """Writes the checkpoint."""
        state = {
            "stamp": self.stamp, "step": self.step, "spent_s": self.seconds(),
            "model": self.model.state_dict(), "mean": self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip
        with written_whole(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def note(self, values: dict[str, float]) -> None:
        """Adds a line to the log."""
        line = {"step": self.step, "minutes": round(self.seconds() / 60, 2)} | values
        with self.log.open("a", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")


def _terms(
    model: Trained,
    maker: Maker,
    s: NptTraining,
    device: str | torch.device,
    rng: np.random.Generator,
) -> Terms:
    if s.part in ("pose", "ordered"):
        b = _on(device, maker.poses(s.identities * s.poses, rng))
        ids = torch.from_numpy(rng.integers(len(maker.body.template), size=s.verts // 2))
        area = torch.multinomial(
            maker.areas, s.verts // 2, generator=torch.Generator().manual_seed(int(ids.sum()))
        )
        terms = pose_terms if s.part == "pose" else ordered_terms
        return terms(model, maker, b, torch.cat([ids, area]))
    batch = maker.identities(s.identities, s.poses, rng)
    if s.part == "identity":
        return identity_terms(model, _on(device, batch), s.edge_weight)
    n_seen = round(s.identities * s.seen_share) * s.poses
    poses = maker.poses(s.identities * s.poses, rng, batch.rotations.flatten(0, 1), n_seen)
    return whole_terms(model, _on(device, poses), _on(device, batch), s.edge_weight)


def _on(device: str | torch.device, batch: Any) -> Any:
    """The batch where the network is."""
    if torch.device(device).type == "cpu":
        return batch
    moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(batch).items()}
    return type(batch)(**moved)
