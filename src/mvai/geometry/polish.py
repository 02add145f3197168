"""Gives a skinned surface its own shape back (Poisson editing, Yu et al., SIGGRAPH 2004).

Blending the joints' maps shears and shrinks the surface where they differ. The polished surface has
the edges of the rest pose, turned by blended rotations, in the least-squares sense, and stays near
the skinned one over lengths above `reach`: x minimises

    sum_ij w_ij |x_i - x_j - (R_i + R_j) / 2 (p_i - p_j)|^2 +
        sum_i m_i / reach^2 |x_i - skinned_i|^2

with cotangent weights w and vertex areas m: one sparse matrix, factored once a character. It is the
global step of as-rigid-as-possible editing (Sorkine and Alexa, 2007), with rotations from the
joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_matrix, csr_array, diags
from scipy.sparse.linalg import SuperLU, splu
from scipy.spatial.transform import Rotation

from mvai.geometry.laplacian import mesh_laplacian
from mvai.geometry.rigid import rotations_near
from mvai.geometry.surface import weld

REACH = 0.05
"""As a share of the height: corrections that are smoother than this are left to the skinning."""
ALONE = 0.95
"""A vertex with more of one joint's weight is said to move with it alone."""
NEAR_GIVEN = 0.2
"""Weight of the rotations that are given when others are fitted to edges, next to the edges."""


@dataclass(frozen=True)
class Polisher:
    """A character's surface, ready to be polished in any pose."""

    first: Int[np.ndarray, " welded"]
    """One original vertex of each welded one."""
    welded: Int[np.ndarray, " verts"]
    rest: Float[np.ndarray, "welded 3"]
    neighbours: csr_array
    """Cotangent weights between neighbours."""
    degree: Float[np.ndarray, " welded"]
    """Their sums."""
    stays: Float[np.ndarray, " welded"]
    """m_i / reach^2."""
    factor: SuperLU
    share: csr_array
    """Skin weights, (welded, joints)."""

    def polish(
        self,
        skinned: Float[np.ndarray, "frames verts 3"],
        quaternions: Float[np.ndarray, "frames joints 4"],
    ) -> Float[np.ndarray, "frames verts 3"]:
        """The polished surface.

        Args:
            skinned: the surface moved by blended maps.
            quaternions: rotation of every joint's map (x, y, z, w), each in its parent's
                hemisphere.
        """
        out = np.empty_like(skinned)
        for f in range(len(skinned)):
            b = (
                self.pull(self.rotations(quaternions[f]))
                + self.stays[:, None] * skinned[f, self.first]
            )
            out[f] = self.factor.solve(b)[self.welded]
        return out

    def rotations(
        self, quaternions: Float[np.ndarray, "joints 4"]
    ) -> Float[np.ndarray, "welded 3 3"]:
        """The joints' rotations, blended at every vertex."""
        return _matrices(self.share @ quaternions)

    def pull(self, R: Float[np.ndarray, "welded 3 3"]) -> Float[np.ndarray, "welded 3"]:
        """What the edges of the rest pose, turned, put on the right-hand side."""
        p, n = self.rest, len(self.rest)
        Rp = np.einsum("vij,vj->vi", R, p)
        both = self.neighbours @ np.concatenate([R.reshape(n, 9), Rp], 1)
        b = np.einsum("vij,vj->vi", both[:, :9].reshape(n, 3, 3), p) - both[:, 9:]
        own_laplacian = self.degree[:, None] * p - self.neighbours @ p
        return (b + np.einsum("vij,vj->vi", R, own_laplacian)) / 2

    def fitted_rotations(
        self,
        R: Float[np.ndarray, "welded 3 3"],
        x: Float[np.ndarray, "welded 3"],
        where: Bool[np.ndarray, " welded"],
    ) -> Float[np.ndarray, "welded 3 3"]:
        """Rotations that best take the edges around some vertices from rest to where they are:
        the local step of as-rigid-as-possible editing.

        Args:
            R: what they are near to; a flat fan of edges does not show its turn well.
            x: positions.
            where: vertices whose rotations are fitted; the others keep theirs.
        """
        some = self.neighbours[where]
        n, p = len(self.rest), self.rest
        # sum_j w_ij (x_i - x_j) (p_i - p_j)^T, multiplied out.
        outer = (x[:, :, None] * p[:, None]).reshape(n, 9)
        sums = some @ np.concatenate([outer, x, p], 1)
        xi, pi = x[where], p[where]
        H = self.degree[where, None, None] * (xi[:, :, None] * pi[:, None])
        H = H + sums[:, :9].reshape(-1, 3, 3)
        H = H - xi[:, :, None] * sums[:, None, 12:] - sums[:, 9:12, None] * pi[:, None]
        size = np.linalg.norm(H, axis=(1, 2))[:, None, None]
        result = R.copy()
        result[where] = rotations_near(H + NEAR_GIVEN * size * R[where], R[where])
        return result


def polisher(
    vertices: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    indices: Int[np.ndarray, "verts influences"],
    weights: Float[np.ndarray, "verts influences"],
    joints: int,
    reach: float = REACH,
    hold: float = 0.0,
) -> Polisher:
    """Prepare a character: one sparse factorisation.

    Args:
        vertices, faces: the character at rest.
        indices, weights: its skin weights.
        joints: how many there are.
        reach: corrections smoother than this share of the height are left to the skinning.
        hold: how much more strongly vertices stay that one joint alone moves (soles, finger tips).
    """
    height = float(np.ptp(vertices[:, 1]))
    first, welded = weld(vertices, 1e-5 * height)
    rest = vertices[first].astype(np.float64)
    L, mass = mesh_laplacian(rest, welded[faces])
    off = -(L - diags(L.diagonal()))
    # Obtuse corners can make a weight negative; then the minimum would not be bounded.
    off = csr_array(off.multiply(off > 0))
    stays = np.maximum(mass, 1e-9 * max(float(mass.sum()), 1e-12)) / (reach * height) ** 2
    alone = (weights[first].max(1) - ALONE) / (1 - ALONE)
    stays *= 1 + hold * np.clip(alone, 0, 1)
    degree = off.sum(1)
    system = diags(degree + stays) - off
    share = csr_array(
        (
            weights[first].ravel().astype(np.float64),
            indices[first].ravel(),
            np.arange(len(first) + 1) * weights.shape[1],
        ),
        shape=(len(first), joints),
    )
    return Polisher(first, welded, rest, off, degree, stays, splu(csc_matrix(system)), share)


def rotation_quaternions(
    R: Float[np.ndarray, "frames joints 3 3"],
) -> Float[np.ndarray, "frames joints 4"]:
    """Quaternions (x, y, z, w) of rotation matrices."""
    q = Rotation.from_matrix(R.reshape(-1, 3, 3)).as_quat()
    return q.reshape(*R.shape[:2], 4)


def hemispheres(
    quaternions: Float[np.ndarray, "frames joints 4"], parents: tuple[int, ...]
) -> Float[np.ndarray, "frames joints 4"]:
    """The same rotations, every quaternion on its parent's side so that they can be blended."""
    q = quaternions.copy()
    for j, parent in enumerate(parents):
        if parent >= 0:
            q[:, j] *= np.where((q[:, j] * q[:, parent]).sum(-1, keepdims=True) < 0, -1, 1)
    return q


def _matrices(q: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 3 3"]:
    """Rotation matrices from quaternions of any length."""
    q = q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-9)
    x, y, z, w = q.T
    R = np.empty((len(q), 3, 3))
    R[:, 0, 0], R[:, 0, 1], R[:, 0, 2] = (
        1 - 2 * (y * y + z * z),
        2 * (x * y - z * w),
        2 * (x * z + y * w),
    )
    R[:, 1, 0], R[:, 1, 1], R[:, 1, 2] = (
        2 * (x * y + z * w),
        1 - 2 * (x * x + z * z),
        2 * (y * z - x * w),
    )
    R[:, 2, 0], R[:, 2, 1], R[:, 2, 2] = (
        2 * (x * z - y * w),
        2 * (y * z + x * w),
        1 - 2 * (x * x + y * y),
    )
    return R
