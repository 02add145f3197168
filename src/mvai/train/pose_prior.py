"""Train the pose prior: two candidates, one common test on held-out people, one winner.

The candidates are a Gaussian mixture and a variational auto-encoder (nets/pose_prior.py). Both see
the same frames. Which is shipped is decided by the use it is put to: poses are fitted to noisy
joint positions seen from the front (no depth), and the mean 3D joint error is compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvai.benchmark.poses import PoseClip, mirrored_pose, poses_in_folder
from mvai.benchmark.splits import HELD_OUT, is_held_out
from mvai.body.anny import anny_body
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.io.atomic import written_whole
from mvai.nets.pose_prior import GaussianMixture, PoseVae, axis_angle_from_matrix
from mvai.train.pose_completion import BodyChain, completion_errors_mm, with_root
from mvai.types import MvaiError
from mvai.types.names import BODY_JOINTS


@dataclass(frozen=True)
class PosePriorSettings:
    """How both candidates are trained."""

    frames_per_clip: int = 400
    """Frames taken from one clip at most, evenly spaced."""
    components: int = 8
    covariance_floor: float = 2e-3
    """Added to the diagonal of every covariance (rad^2)."""
    mixture_steps: int = 40
    latent: int = 32
    width: int = 256
    dropout: float = 0.1
    vae_steps: int = 4000
    batch: int = 128
    learning_rate: float = 1e-3
    kl_weight: float = 1e-3
    noise_rad: float = 0.1
    """Standard deviation of the rotation noise added to each joint in training."""
    seed: int = 0


def balanced(clips: Sequence[PoseClip], frames_per_clip: int) -> Float[np.ndarray, "n 22 3"]:
    """Measured frames of all clips, at most `frames_per_clip` of each."""
    taken = []
    for clip in clips:
        pose = clip.pose[clip.measured]
        if len(pose) > frames_per_clip:
            pose = pose[np.linspace(0, len(pose) - 1, frames_per_clip).round().astype(int)]
        taken.append(pose)
    return np.concatenate(taken)


# --- Gaussian mixture ---------------------------------------------------------------------------


def fit_mixture(
    x: Float[np.ndarray, "n size"], settings: PosePriorSettings, report: Callable[[float], None]
) -> GaussianMixture:
    """Expectation-maximisation from k-means centres."""
    from scipy.cluster.vq import kmeans2

    model = GaussianMixture(settings.components, x.shape[1])
    # scipy is renaming `seed` to `rng`; every release that is allowed here takes `seed`.
    _, label = kmeans2(
        x,
        settings.components,
        iter=30,
        minit="++",
        seed=settings.seed,  # pyright: ignore
    )
    share = np.eye(settings.components)[label]
    data = torch.from_numpy(x.astype(np.float32))
    for step in range(settings.mixture_steps):
        mass = share.sum(0) + 1e-6
        means = share.T @ x / mass[:, None]
        for k in range(settings.components):
            d = x - means[k]
            covariance = (share[:, k, None] * d).T @ d / mass[k]
            covariance += settings.covariance_floor * np.eye(x.shape[1])
            factor = np.linalg.cholesky(np.linalg.inv(covariance))
            model.precision_factors[k] = torch.from_numpy(factor.astype(np.float32))
        model.means.copy_(torch.from_numpy(means.astype(np.float32)))
        model.weights.copy_(torch.from_numpy((mass / mass.sum()).astype(np.float32)))
        share = model.component_log_likelihood(data).softmax(-1).double().numpy()
        report((step + 1) / settings.mixture_steps)
    return model.eval()


# --- Variational auto-encoder -------------------------------------------------------------------


def geodesic(A: Float[Tensor, "*b 3 3"], B: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
    """Angle between rotations (radians)."""
    return axis_angle_from_matrix(A.transpose(-1, -2) @ B).norm(dim=-1)


def train_vae(
    poses: Float[Tensor, "n 21 3"],
    chain: BodyChain,
    settings: PosePriorSettings,
    checkpoint: Path,
    report: Callable[[float], None],
) -> PoseVae:
    """Minimise chordal rotation loss + joint position loss + KL, Adam with cosine decay.

    A checkpoint is kept every 500 steps and used when it was made with the same settings.
    """
    torch.manual_seed(settings.seed)
    model = PoseVae(settings.latent, settings.width, settings.dropout)
    optimiser = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.vae_steps)
    stamp = json.dumps([asdict(settings), len(poses), float(poses.double().sum())])
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["stamp"] == stamp:
            first = state["step"]
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            schedule.load_state_dict(state["schedule"])
            torch.set_rng_state(state["rng"])
    model.train()
    for step in range(first, settings.vae_steps):
        clean = poses[torch.randint(len(poses), (settings.batch,))]
        target = matrix_from_axis_angle(clean)
        noise = matrix_from_axis_angle(settings.noise_rad * torch.randn_like(clean))
        mean, log_variance = model.posterior(target @ noise)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        decoded = model.decode(z)
        rotation = ((decoded - target) ** 2).sum((-1, -2)).mean(-1)
        position = (chain(with_root(decoded)) - chain(with_root(target))).norm(dim=-1).mean(-1)
        kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(-1)
        loss = (rotation + 4 * position + settings.kl_weight * kl).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % 500 == 0:
            with written_whole(checkpoint) as temporary:
                torch.save(
                    {
                        "stamp": stamp, "step": step + 1, "model": model.state_dict(),
                        "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict(),
                        "rng": torch.get_rng_state(),
                    },
                    temporary,
                )  # fmt: skip
        report((step + 1) / settings.vae_steps)
    return model.eval().requires_grad_(False)


# --- The whole run ------------------------------------------------------------------------------


def train_pose_prior(
    data: Path, out: Path, settings: PosePriorSettings | None = None
) -> dict[str, object]:
    """Train both candidates on the BVH clips below `data`; write the better one to `out`.

    Converted clips and a checkpoint are kept in `<out>.work`, so an interrupted run goes on.
    Returns the measured results, also stored as JSON there and in the file's metadata.

    Raises:
        MvaiError: there are no clips, or none on one side of the split.
    """
    from rich.progress import Progress
    from safetensors.torch import save

    settings = settings or PosePriorSettings()
    torch.manual_seed(settings.seed)
    work = out.with_name(out.name + ".work")
    body = anny_body()
    chain = BodyChain(body)
    with Progress() as progress:
        row = progress.add_task("bring clips onto the body", total=None)
        clips = []
        for clip in poses_in_folder(data, body, work / "clips"):
            clips.append(clip)
            progress.advance(row)
        train, test = _split(data, clips)
        frames = balanced(train, settings.frames_per_clip)
        frames = np.concatenate([frames, mirrored_pose(frames)])
        held = balanced(test, settings.frames_per_clip)
        x = torch.from_numpy(frames[:, 1:].astype(np.float32))
        y = torch.from_numpy(held[:, 1:].astype(np.float32))

        def reporter(what: str) -> Callable[[float], None]:
            row = progress.add_task(what, total=1.0)
            return lambda done: progress.update(row, completed=done)

        mixture = fit_mixture(
            frames[:, 1:].reshape(len(frames), -1).astype(np.float64),
            settings,
            reporter("Gaussian mixture"),
        )
        vae = train_vae(x, chain, settings, work / "vae.pt", reporter("auto-encoder"))
        completion = completion_errors_mm(
            {"plain L2": None, "Gaussian mixture": mixture, "VAE": vae},
            x, y, chain, reporter("common test"),
        )  # fmt: skip

    results: dict[str, object] = {
        "frames": {"training, with mirrored": len(x), "held out": len(y)},
        "clips": {"training": len(train), "held out": len(test)},
        **_likelihood_and_reconstruction(mixture, vae, chain, x, y),
        "completion": completion,
    }
    vae_wins = completion["VAE"]["held_out_mm"] < completion["Gaussian mixture"]["held_out_mm"]
    stored = {
        "kind": "vae" if vae_wins else "gaussian mixture",
        "joints": list(BODY_JOINTS[1:]),
        "training": asdict(settings),
        **({"latent": settings.latent, "width": settings.width} if vae_wins else {}),
        **({} if vae_wins else {"components": settings.components}),
        "results": results,
    }
    winner = vae if vae_wins else mixture
    content = save(
        {k: v.contiguous() for k, v in winner.state_dict().items()},
        {"settings": json.dumps(stored)},
    )
    with written_whole(out) as temporary:
        temporary.write_bytes(content)
    with written_whole(work / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return results


def _split(data: Path, clips: Sequence[PoseClip]) -> tuple[list[PoseClip], list[PoseClip]]:
    """Clips to train on and those of the test people.

    Raises:
        MvaiError: there are none on one side.
    """
    train = [c for c in clips if not is_held_out(c.name)]
    test = [c for c in clips if is_held_out(c.name)]
    if not train or not test:
        raise MvaiError(
            f"{data}: there are no clips to train on or none to measure on; the held-out clips "
            f"are those whose names begin with {', '.join(HELD_OUT)}."
        )
    return train, test


def _likelihood_and_reconstruction(
    mixture: GaussianMixture,
    vae: PoseVae,
    chain: BodyChain,
    x: Float[Tensor, "n 21 3"],
    y: Float[Tensor, "m 21 3"],
) -> dict[str, dict[str, float]]:
    """How well the mixture foresees poses to train on (x) and held-out ones (y), and how well the
    auto-encoder gives held-out ones back."""
    R = matrix_from_axis_angle(y)
    with torch.no_grad():
        decoded = vae.decode(vae.encode(R))
        off_m = (chain(with_root(decoded)) - chain(with_root(R))).norm(dim=-1).mean()
        return {
            "mixture_log_likelihood": {
                "training": float(mixture.log_likelihood(matrix_from_axis_angle(x)).mean()),
                "held out": float(mixture.log_likelihood(R).mean()),
            },
            "vae_reconstruction": {
                "position_mm": 1000 * float(off_m),
                "rotation_deg": float(torch.rad2deg(geodesic(decoded, R)).mean()),
            },
        }
