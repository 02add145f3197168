"""The energy of a whole clip and its Gauss-Newton system.

Every term is a negative log-likelihood up to a constant, so its weight is the standard deviation
of what it weighs. Robust terms enter the system by iteratively reweighted least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvai.nets.pose_prior import GaussianMixture
from mvai.reconstruct.clip_weights import ClipWeights
from mvai.reconstruct.collision import Spheres
from mvai.reconstruct.energy import gmof, project
from mvai.reconstruct.kinematics import Linearised


@dataclass(frozen=True)
class Observation:
    """What is known of every frame. Points are the key-points that follow the 22 joints."""

    xy_px: Float[Tensor, "frames points 2"]
    confidence: Float[Tensor, "frames points"]
    xyz_m: Float[Tensor, "frames points 3"]
    """Relative to the middle of the hips, or in the world when `ClipEnergy.hips` is None; world
    axes; 0 where unknown."""
    landmark_inverse_m: Float[Tensor, "frames points 3"]
    """1 / standard deviation of every coordinate of `xyz_m`; 0 where unknown."""
    pixel_m: Float[Tensor, " frames"]
    """Size of a pixel at the person's depth."""
    planted: Bool[Tensor, "steps points"]
    """Points that stand still from one frame to the next."""
    unseen: Float[Tensor, "frames 21"]
    """1 for body joints (after the root) of a leg that is not in the picture, else 0; between the
    two where it is unsure whether he stands on it."""
    focal_px: float
    centre_px: Float[Tensor, "2"]
    fps: float


@dataclass
class System:
    """Normal equations of one linearisation: blocks as in `geometry.banded.solve_chain`."""

    blocks: list[Float[Tensor, "frames size size"]]
    border: Float[Tensor, "frames size shared"]
    corner: Float[Tensor, "shared shared"]
    gradient: Float[Tensor, "frames size"]
    gradient_shared: Float[Tensor, " shared"]


@dataclass(frozen=True)
class ClipEnergy:
    """All terms of one clip."""

    observation: Observation
    weights: ClipWeights
    prior: GaussianMixture
    spheres: Spheres
    joints: int
    """How many joints stand before the key-points in the list of points."""
    hips: tuple[int, int] | None
    """Rows of the hips among the points, which landmarks are relative to; None when landmarks are
    positions in the world."""
    hinges: list[int]
    """Rows of knees and elbows among the 21 body joints."""
    hinge_axes: Float[Tensor, "4 3"]
    hinge_bends: Float[Tensor, "4"]
    shape_mean: Float[Tensor, " shape"]
    """Centre of the shape prior."""

    # --- residuals shared by value and system -----------------------------------------------

    def _pixels(self, points: Tensor) -> tuple[Tensor, Tensor]:
        o = self.observation
        r = (project(points, o.focal_px, o.centre_px) - o.xy_px) * o.pixel_m[:, None, None]
        return r, (r * r).sum(-1)

    def _landmarks(self, points: Tensor) -> tuple[Tensor, Tensor]:
        d = self._relative(points[:, self.joints :], points) - self.observation.xyz_m
        r = d * self.observation.landmark_inverse_m
        return r, (r * r).sum(-1)

    def _relative(self, seen: Tensor, points: Tensor) -> Tensor:
        """What landmarks are compared with, or its derivative: key-points less the hips' middle."""
        return (
            seen if self.hips is None else seen - points[:, list(self.hips)].mean(1, keepdim=True)
        )

    def _bend(self, u: Tensor) -> Tensor:
        aa = u[:, 6:].unflatten(1, (21, 3))[:, self.hinges]
        bend = (aa * self.hinge_axes).sum(-1) + self.hinge_bends
        return torch.exp(-bend.clamp(min=-2.0, max=8.0))

    def _standing(self) -> Tensor:
        """Weights of the rotation vectors of legs that nobody sees: people stand on them."""
        return self.observation.unseen.repeat_interleave(3, 1) / self.weights.stand_rad**2

    def _steps(self, points: Tensor) -> Tensor:
        return points[1:, self.joints :] - points[:-1, self.joints :]

    # --- value ------------------------------------------------------------------------------

    def value(self, u: Float[Tensor, "frames 69"], shape: Tensor, points: Tensor) -> float:
        """The energy at u; `points` are the posed points there."""
        w, o = self.weights, self.observation
        _, pixel2 = self._pixels(points[:, self.joints :])
        _, landmark2 = self._landmarks(points)
        e = (o.confidence**2 * gmof(pixel2, w.pixel_rho_m)).sum() / (2 * w.pixel_m**2)
        e += gmof(landmark2, w.landmark_rho).sum() / (2 * w.landmark**2)
        e += w.pose * self.prior.energy_of(u[:, 6:].unflatten(1, (21, 3))).sum()
        e += 0.5 * w.bend * (self._bend(u) ** 2).sum()
        e += 0.5 * (self._standing() * u[:, 6:] ** 2).sum()
        e += 0.5 * ((shape - self.shape_mean) ** 2).sum() / w.shape**2
        e += self.spheres.penetration(points[:, : self.joints]).sum() / (2 * w.collision_m**2)
        if len(points) > 2:
            a = (points[2:] - 2 * points[1:-1] + points[:-2]) * (o.fps**2 / w.acceleration)
            e += 0.5 * (a * a).sum()
        if len(points) > 1:
            step = self._steps(points) * o.planted[..., None]
            e += 0.5 * (step * step).sum() / w.contact_m**2
        return float(e)

    # --- Gauss-Newton system ----------------------------------------------------------------

    def system(self, u: Float[Tensor, "frames 69"], shape: Tensor, at: Linearised) -> System:
        """Normal equations at u."""
        w, o = self.weights, self.observation
        J, Js, points = at.by_frame, at.by_shape, at.points
        frames, _, _, size = J.shape
        H = torch.zeros(frames, size, size)
        g = torch.zeros(frames, size)
        B = torch.zeros(frames, size, Js.shape[-1])
        C = torch.eye(Js.shape[-1]) / w.shape**2
        gs = (shape - self.shape_mean) / w.shape**2

        def add(rows: Tensor, rows_shape: Tensor, r: Tensor, weight: Tensor) -> None:
            """Rows (frames, n, size), (frames, n, shared), residuals and weights (frames, n)."""
            nonlocal C, gs
            wr = rows * weight[..., None]
            wrs = rows_shape * weight[..., None]
            H.baddbmm_(wr.transpose(1, 2), rows)
            B.baddbmm_(wr.transpose(1, 2), rows_shape)
            g.add_(torch.einsum("fns,fn->fs", wr, r))
            C = C + torch.einsum("fna,fnb->ab", wrs, rows_shape)
            gs = gs + torch.einsum("fna,fn->a", wrs, r)

        seen, seen_s = J[:, self.joints :], Js[:, self.joints :]
        r, squared = self._pixels(points[:, self.joints :])
        P = (
            _projection_derivative(points[:, self.joints :], o.focal_px)
            * o.pixel_m[:, None, None, None]
        )
        weight = o.confidence**2 * _reweight(squared, w.pixel_rho_m) / w.pixel_m**2
        add(
            (P @ seen).flatten(1, 2),
            (P @ seen_s).flatten(1, 2),
            r.flatten(1),
            weight.repeat_interleave(2, 1),
        )
        r, squared = self._landmarks(points)
        scale = o.landmark_inverse_m[..., None]
        weight = _reweight(squared, w.landmark_rho) / w.landmark**2
        add(
            (self._relative(seen, J) * scale).flatten(1, 2),
            (self._relative(seen_s, Js) * scale).flatten(1, 2),
            r.flatten(1),
            weight.repeat_interleave(3, 1),
        )

        gradient, hessian = self.prior.quadratic(u[:, 6:].unflatten(1, (21, 3)))
        g[:, 6:] += w.pose * gradient
        H[:, 6:, 6:] += w.pose * hessian

        standing = self._standing()
        g[:, 6:] += standing * u[:, 6:]
        H[:, 6:, 6:] += torch.diag_embed(standing)

        bend = self._bend(u)
        for i, j in enumerate(self.hinges):
            at_j = slice(6 + 3 * j, 9 + 3 * j)
            row = -bend[:, i : i + 1] * self.hinge_axes[i]
            H[:, at_j, at_j] += w.bend * row[:, :, None] * row[:, None]
            g[:, at_j] += w.bend * row * bend[:, i : i + 1]

        frame, i, j, direction, overlap = self.spheres.contacts(points[:, : self.joints])
        if len(frame):
            rows, rows_s = (
                torch.einsum(
                    "na,nab->nb",
                    direction,
                    self.spheres.blend(D[:, : self.joints], frame, i)
                    - self.spheres.blend(D[:, : self.joints], frame, j),
                )
                for D in (J, Js)
            )
            k = 1 / w.collision_m**2
            H.index_put_((frame,), k * rows[:, :, None] * rows[:, None], accumulate=True)
            B.index_put_((frame,), k * rows[:, :, None] * rows_s[:, None], accumulate=True)
            g.index_put_((frame,), -k * rows * overlap[:, None], accumulate=True)
            C = C + k * rows_s.T @ rows_s
            gs = gs - k * (rows_s * overlap[:, None]).sum(0)

        blocks = [H, torch.zeros_like(H), torch.zeros_like(H)]
        self._chain(blocks, g, B, points, J, Js)
        return System(blocks, B, C, g, gs)

    def _chain(
        self, blocks: list[Tensor], g: Tensor, B: Tensor, points: Tensor, J: Tensor, Js: Tensor
    ) -> None:
        """Terms that tie frames together. Their shape derivative is small and left out."""
        w, o = self.weights, self.observation
        frames = len(points)
        flat = J.flatten(1, 2)
        if frames > 2:
            k = (o.fps**2 / w.acceleration) ** 2
            D = torch.zeros(frames - 2, frames)
            index = torch.arange(frames - 2)
            D[index, index], D[index, index + 1], D[index, index + 2] = 1.0, -2.0, 1.0
            M = k * D.T @ D
            force = torch.einsum("fg,gpa->fpa", M, points).flatten(1)
            g += torch.einsum("fns,fn->fs", flat, force)
            for offset in range(3):
                c = torch.diagonal(M, offset)
                n = frames - offset
                blocks[offset][:n] += c[:, None, None] * torch.bmm(
                    flat[:n].transpose(1, 2), flat[offset:]
                )
        if frames > 1 and o.planted.any():
            p = o.planted.float().repeat_interleave(3, 1) / w.contact_m**2
            foot = J[:, self.joints :].flatten(1, 2)
            a, b = foot[:-1], foot[1:]
            pa, pb = a * p[..., None], b * p[..., None]
            step = self._steps(points).flatten(1)
            blocks[0][:-1] += torch.bmm(pa.transpose(1, 2), a)
            blocks[0][1:] += torch.bmm(pb.transpose(1, 2), b)
            blocks[1][:-1] -= torch.bmm(pa.transpose(1, 2), b)
            g[:-1] -= torch.einsum("fns,fn->fs", pa, step)
            g[1:] += torch.einsum("fns,fn->fs", pb, step)


def _reweight(squared: Tensor, rho: float) -> Tensor:
    """Derivative of `gmof` with respect to the squared residual."""
    return (rho * rho / (squared + rho * rho)) ** 2


def _projection_derivative(
    points: Float[Tensor, "frames points 3"], focal_px: float
) -> Float[Tensor, "frames points 2 3"]:
    """Derivative of `energy.project` with respect to the points."""
    x, y, z = points.unbind(-1)
    d = (-z).clamp(min=0.05)
    o = torch.zeros_like(d)
    return focal_px * torch.stack([1 / d, o, x / d**2, o, -1 / d, -y / d**2], -1).unflatten(
        -1, (2, 3)
    )
