"""How likely a body pose is, learnt from motion capture.

Two models over the 21 body joints without the root: a Gaussian mixture over axis-angle vectors,
read through its largest component as in SMPLify (Bogo et al., ECCV 2016, "max-mixture"), and a
variational auto-encoder in VPoser's form (Pavlakos et al., CVPR 2019). `mvai train pose-prior`
fits both and ships the one that completes held-out poses better; weights/pose_prior.md is its card.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvai.geometry.rotations import matrix_from_6d, sixd_from_matrix
from mvai.types import MvaiError
from mvai.types.names import BODY_JOINTS

WEIGHTS = Path(str(files("mvai"))) / "weights" / "pose_prior.safetensors"
JOINTS = len(BODY_JOINTS) - 1
"""The joints of `BODY_JOINTS[1:]`, in that order."""


def axis_angle_from_matrix(R: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Logarithm of rotations, angle in [0, pi); differentiable save at half turns.

    v = vee(R - R^T) / 2 has length sin(angle) and (tr R - 1) / 2 = cos(angle), so atan2 gives the
    angle without the loss of precision of arccos near the identity.
    """
    v = torch.stack(
        [
            R[..., 2, 1] - R[..., 1, 2],
            R[..., 0, 2] - R[..., 2, 0],
            R[..., 1, 0] - R[..., 0, 1],
        ],
        dim=-1,
    ) / 2  # fmt: skip
    cosine = (R.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    sq = (v * v).sum(-1)
    small = sq < 1e-10
    sine = torch.where(small, torch.ones_like(sq), sq).sqrt()
    angle = torch.atan2(sine, cosine)
    return v * torch.where(small, 1 + sq / 6, angle / sine)[..., None]


class GaussianMixture(nn.Module):
    """Gaussian components with full covariance over the 63 axis-angle numbers."""

    weights: Tensor
    means: Tensor
    precision_factors: Tensor

    def __init__(self, components: int, size: int = JOINTS * 3) -> None:
        super().__init__()
        self.register_buffer("weights", torch.full((components,), 1.0 / components))
        self.register_buffer("means", torch.zeros(components, size))
        # L with L L^T the inverse covariance.
        self.register_buffer("precision_factors", torch.eye(size).repeat(components, 1, 1))

    def component_log_likelihood(self, x: Float[Tensor, "n size"]) -> Float[Tensor, "n components"]:
        """log(weight_k N(x; mean_k, covariance_k)) in nats."""
        whitened = torch.einsum("nkd,kde->nke", x[:, None] - self.means, self.precision_factors)
        log_det = self.precision_factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = 0.5 * x.shape[1] * torch.log(torch.tensor(2 * torch.pi)).item()
        return self.weights.log() + log_det - constant - 0.5 * (whitened**2).sum(-1)

    def log_likelihood(self, body_rotations: Float[Tensor, "n 21 3 3"]) -> Float[Tensor, " n"]:
        x = axis_angle_from_matrix(body_rotations).flatten(1)
        return self.component_log_likelihood(x).logsumexp(-1)

    def energy(self, body_rotations: Float[Tensor, "n 21 3 3"]) -> Float[Tensor, " n"]:
        """min_k of the negative log-likelihood; 0 at the mean of the most peaked component."""
        return self.energy_of(axis_angle_from_matrix(body_rotations))

    def energy_of(self, body: Float[Tensor, "n 21 3"]) -> Float[Tensor, " n"]:
        """`energy` of axis-angle vectors."""
        log_det = self.precision_factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        size = self.means.shape[1]
        constant = 0.5 * size * torch.log(torch.tensor(2 * torch.pi)).item()
        peak = (self.weights.log() + log_det - constant).max()
        return peak - self.component_log_likelihood(body.flatten(1)).amax(-1)

    def quadratic(
        self, body: Float[Tensor, "n 21 3"]
    ) -> tuple[Float[Tensor, "n size"], Float[Tensor, "n size size"]]:
        """Gradient and Hessian of the energy in axis-angle vectors (constant a component)."""
        x = body.flatten(1)
        best = self.component_log_likelihood(x).argmax(-1)
        L = self.precision_factors
        precision = (L @ L.transpose(1, 2))[best]
        return torch.einsum("nde,ne->nd", precision, x - self.means[best]), precision

    @property
    def mean_pose(self) -> Float[Tensor, "21 3"]:
        """Axis-angle vectors of the weighted mean of the components."""
        return (self.weights[:, None] * self.means).sum(0).unflatten(-1, (JOINTS, 3))


class _Residual(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(),
            nn.Dropout(dropout), nn.Linear(width, width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class PoseVae(nn.Module):
    """Variational auto-encoder; rotations go in and come out in the 6D form."""

    def __init__(self, latent: int = 32, width: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(
            nn.Linear(JOINTS * 6, width), _Residual(width, dropout), _Residual(width, dropout),
            nn.LayerNorm(width), nn.Linear(width, 2 * latent),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latent, width), _Residual(width, dropout), _Residual(width, dropout),
            nn.LayerNorm(width), nn.Linear(width, JOINTS * 6),
        )  # fmt: skip

    def posterior(
        self, body_rotations: Float[Tensor, "n 21 3 3"]
    ) -> tuple[Float[Tensor, "n latent"], Float[Tensor, "n latent"]]:
        """Mean and log variance of the latent code."""
        mean, log_variance = self.encoder(sixd_from_matrix(body_rotations).flatten(1)).chunk(2, -1)
        return mean, log_variance.clamp(-10, 5)

    def encode(self, body_rotations: Float[Tensor, "n 21 3 3"]) -> Float[Tensor, "n latent"]:
        return self.posterior(body_rotations)[0]

    def decode(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, "n 21 3 3"]:
        return matrix_from_6d(self.decoder(z).unflatten(-1, (JOINTS, 6)))


def build(settings: dict[str, object]) -> GaussianMixture | PoseVae:
    """An empty model of the kind the file's metadata names."""
    kind = settings["kind"]
    if kind == "gaussian mixture":
        return GaussianMixture(int(str(settings["components"])))
    if kind == "vae":
        return PoseVae(int(str(settings["latent"])), int(str(settings["width"])))
    raise KeyError(kind)


def load_pose_prior(path: Path = WEIGHTS) -> GaussianMixture | PoseVae:
    """The trained prior, in evaluation mode and without gradients on its weights.

    Raises:
        MvaiError: the file is missing, damaged, or holds other tensors than the model needs.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            settings = json.loads(stored.metadata()["settings"])
            tensors = {k: stored.get_tensor(k) for k in stored.keys()}  # noqa: SIM118
        if settings["joints"] != list(BODY_JOINTS[1:]):
            raise KeyError("joints")
        model = build(settings)
        model.load_state_dict(tensors, strict=True)
    except FileNotFoundError as error:
        raise MvaiError(f"{path}: the pose prior's weights are missing; install mvai again.") from (
            error
        )
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise MvaiError(
            f"{path}: the pose prior's weights do not match this version; install mvai again."
        ) from error
    return model.eval().requires_grad_(False)
