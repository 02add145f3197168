"""Fits the template body to a character: first to its key-points, then to its surface.

Both are nonlinear least squares, solved by Gauss-Newton with robust weights; the surface part is
iterated with nearest points (ICP), both ways and with agreeing normals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from mvai.body.model import LinearBody
from mvai.geometry.rigid import similarity
from mvai.geometry.surface import (
    components,
    sample_surface,
    sampled_faces,
    vertex_normals,
    weld,
)
from mvai.transfer.registration.bends import limb_bends
from mvai.transfer.registration.find_joints import FoundJoints
from mvai.transfer.registration.prior import Normal, Prior
from mvai.transfer.registration.rest import rest_rotations
from mvai.transfer.registration.template import LIMBS, ScaledTemplate, TemplatePoints, TemplatePose
from mvai.transfer.registration.thighs import thigh_turns
from mvai.types import Mesh
from mvai.types.names import SIDES

TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
HAND_TIPS = ("_index", "_pinky", "_thumb")
SURFACE_SAMPLES = 6000
ROUNDS = ((0.05, 4), (0.035, 4), (0.025, 6), (0.02, 6))
"""Scale of the robust surface distance, as a share of the height, and rounds under it."""
KEYPOINT_ROUNDS = ((0.2, 6), (0.05, 8), (0.02, 12))
"""Scale of the key-points' distance, as a share of the height, and rounds under it."""
POINT_TO_POINT = 0.1
"""Weight of the distance along the surface, next to the distance to its plane."""
SURFACE_WEIGHT = 400.0
"""Of the whole surface, next to one sure key-point."""
NEAR = 0.03
"""Surfaces this near, as a share of the height, are taken to be one."""
NEARLY_WHOLE, WHOLE = 0.93, 0.97
"""Shares of the template from which on a body was surely found, but for what it wears."""
CARRIED = 0.25
"""A loose piece of which less than this share is covered is none of the body's."""
LOST = 0.6
"""A limb of which less than this share is covered was not found."""
ENDS_OF_LIMBS = tuple(side + name for side in SIDES for name in ("ForeArm", "Leg"))
BIG_HEAD = 1.35
"""A head that must grow more than this to reach the crown is no human's."""
OUTSIDE = 0.01
"""Key-points further than this outside the surface, as a share of the height, are errors."""
FACE = ("nose", "left_ear", "right_ear", "left_eye", "right_eye", "mouth", "face_")


@dataclass(frozen=True)
class FittedTemplate:
    """The template in a character's rest pose."""

    vertices: Float[np.ndarray, "verts 3"]
    """The template's surface on the character, in the character's world frame."""
    R_world_joint: Float[np.ndarray, "joints 3 3"]
    """How each joint stands in the character's rest relative to the template's."""
    t_world_joint: Float[np.ndarray, "joints 3"]
    keypoint_error_m: float
    """Weighted mean distance to the key-points that were found."""
    surface_error_m: float
    """Median distance from the template to the character's surface."""
    coverage: float = float("nan")
    """Share of both surfaces that lies near the other, 0 to 1."""


def fit_template(
    body: LinearBody,
    found: FoundJoints,
    mesh: Mesh,
    to_surface: bool = True,
    coarse: bool = False,
) -> FittedTemplate:
    """Fit shape, limb scales and rest pose.

    Args:
        body: the template.
        found: where the character's key-points are; names are the body's regressed points.
        mesh: the character at rest.
        to_surface: False leaves the surface out (for characters whose joints are known exactly).
        coarse: a quarter of the time, for a look at how much of the surface would be covered.
    """
    template = ScaledTemplate(body)
    use = [
        i
        for i, n in enumerate(found.names)
        if n in body.regressed and np.isfinite(found.xyz_m[i]).all() and found.confidence[i] > 0.05
    ]
    names = tuple(found.names[i] for i in use)
    target = found.xyz_m[use].astype(np.float64)
    weight = found.confidence[use] * _trust(names)
    points = template.named(names)
    height = float(np.ptp(mesh.vertices[:, 1]))
    keypoints = _KeypointTerm(template, points, target, weight)
    prior = Prior(template)

    pose = _start(template, points, names, target)
    for share, rounds in KEYPOINT_ROUNDS:
        for _ in range(rounds):
            normal = prior.normal(pose)
            keypoints.add(normal, pose, share * height)
            pose = template.moved(pose, normal.step(rotations=template.columns["rotations"]))

    surface_error = float("nan")
    if to_surface:
        pose, growth = _grown_head(template, pose, mesh)
        if growth > BIG_HEAD:
            # The detector looks for a face of human size and puts it anywhere in a larger one.
            weight = np.where([n.startswith(FACE) for n in names], 0.0, weight)
            prior.log_limb = pose.log_limb * (np.arange(len(LIMBS)) == _limb(template, "Head"))
        keypoints = _KeypointTerm(template, points, target, weight * _inside(mesh, target))
        stages = ROUNDS[:1] if coarse else ROUNDS
        pose, surface_error = _fit_surface(template, pose, keypoints, prior, mesh, height, stages)
        _, at, _ = template.joint_transforms(pose)
        placed = template.place(template.vertices(), pose)
        bends = [] if coarse else limb_bends(body, placed, at, mesh)
        if any(bends):
            prior.bends.take(bends)
            pose, surface_error = _fit_surface(
                template, pose, keypoints, prior, mesh, height, ROUNDS[-1:]
            )

    R, t, _ = template.joint_transforms(pose)
    rest = template.rest_joints(pose)
    miss = np.linalg.norm(template.place(points, pose) - target, axis=-1)
    vertices = template.place(template.vertices(), pose)
    turns = None
    if to_surface:
        turns = thigh_turns(body, vertices, t, mesh, template.rest_vertices(pose), rest)
    return FittedTemplate(
        vertices=vertices,
        R_world_joint=rest_rotations(body, rest, R, t, turns),
        t_world_joint=t,
        keypoint_error_m=float((weight * miss).sum() / weight.sum()),
        surface_error_m=surface_error,
        coverage=coverage(body, vertices, mesh, height) if to_surface else float("nan"),
    )


def coverage(
    body: LinearBody, fitted: Float[np.ndarray, "verts 3"], mesh: Mesh, height: float
) -> float:
    """Mean share of either surface's samples that have the other near and facing alike.

    What only one side of the character carries is left out: props are no part of a body. Where
    nearly all of the template is covered, so are loose pieces that it does not cover (wings, a
    pack, a helmet), and where it is covered as a whole, all else is clothing. Where a
    forearm or a shin is hardly covered at all, its share stands for the whole: such a limb was
    found in the wrong place, however well the rest fits.
    """
    samples, normals = sample_surface(mesh.vertices, mesh.faces, SURFACE_SAMPLES)
    ids = template_samples(body)
    own, own_normals = fitted[ids], vertex_normals(fitted, body.faces)[ids]

    here = _covered(own, own_normals, samples, normals, height)
    shares = [float(here.mean())]
    if shares[0] <= WHOLE:
        there = _covered(samples, normals, own, own_normals, height)
        mirrored, _ = KDTree(samples).query(samples * [-1, 1, 1])
        both = mirrored < 0.02 * height
        if shares[0] > NEARLY_WHOLE:
            both &= ~_carried(mesh, there)
        if both.any():
            shares.append(float(there[both].mean()))
    bone = body.strongest_joint[ids]
    limbs = [float(here[bone == body.joint(n)].mean()) for n in ENDS_OF_LIMBS]
    return min(float(np.mean(shares)), *(share for share in limbs if share < LOST), 1.0)


def lost_limbs(
    body: LinearBody, fitted: Float[np.ndarray, "verts 3"], mesh: Mesh, height: float
) -> list[str]:
    """Forearms and shins that were found in the wrong place: joints at their upper ends."""
    samples, normals = sample_surface(mesh.vertices, mesh.faces, SURFACE_SAMPLES)
    ids = template_samples(body)
    here = _covered(fitted[ids], vertex_normals(fitted, body.faces)[ids], samples, normals, height)
    bone = body.strongest_joint[ids]
    return [n for n in ENDS_OF_LIMBS if here[bone == body.joint(n)].mean() < LOST]


def _covered(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    others: Float[np.ndarray, "m 3"],
    other_normals: Float[np.ndarray, "m 3"],
    height: float,
) -> Bool[np.ndarray, " n"]:
    """Whether a point has others near that face alike."""
    distance, near = KDTree(others).query(points, k=6)
    alike = (normals[:, None] * other_normals[near]).sum(-1) > 0.2
    return (alike & (distance < NEAR * height)).any(1)


def _carried(mesh: Mesh, covered: Bool[np.ndarray, " samples"]) -> Bool[np.ndarray, " samples"]:
    """Which samples of the surface are on loose pieces that are hardly covered."""
    _, welded = weld(mesh.vertices, 1e-5 * float(np.ptp(mesh.vertices[:, 1])))
    label = components(int(welded.max()) + 1, welded[mesh.faces])
    piece = label[welded[mesh.faces[sampled_faces(mesh.vertices, mesh.faces, len(covered)), 0]]]
    share = np.bincount(piece, covered) / np.maximum(np.bincount(piece), 1)
    return share[piece] < CARRIED


class _KeypointTerm:
    """Robust distances (Geman-McClure) to the key-points that were found."""

    def __init__(
        self,
        template: ScaledTemplate,
        points: TemplatePoints,
        target: np.ndarray,
        weight: np.ndarray,
    ) -> None:
        self.template, self.points, self.target, self.weight = template, points, target, weight

    def add(self, normal: Normal, pose: TemplatePose, sigma: float) -> None:
        x, J = self.template.jacobian(self.points, pose)
        r = self.target - x
        w = self.weight / (1 + 0.1 * (r * r).sum(1) / sigma**2) ** 2 / sigma**2
        normal.add_points(J, w[:, None, None] * np.eye(3), w[:, None] * r)


def _grown_head(
    template: ScaledTemplate, pose: TemplatePose, mesh: Mesh
) -> tuple[TemplatePose, float]:
    """The pose with the head scaled to reach the character's crown, and how much it has grown.

    Key-points see a face and know nothing of the skull; a toy's head is several times as large as
    the template's and would find no near points to be fitted to.
    """
    body = template.body
    head = body.joint("Head")
    own = np.flatnonzero(((body.weight_indices == head) * body.weights).sum(1) > 0.5)
    _, t, _ = template.joint_transforms(pose)
    crown = float(template.place(template.vertices(own), pose)[:, 1].max())
    above = mesh.vertices[
        np.abs(mesh.vertices[:, 0] - t[head, 0]) < 0.1 * np.ptp(mesh.vertices[:, 1])
    ]
    reach = float(above[:, 1].max()) - t[head, 1]
    growth = float(np.clip(reach / max(crown - t[head, 1], 1e-6), 0.5, 5.0))
    if growth > BIG_HEAD:
        log_limb = pose.log_limb.copy()
        log_limb[_limb(template, "Head")] += np.log(growth)
        pose = replace(pose, log_limb=log_limb)
    return pose, growth


def _limb(template: ScaledTemplate, joint: str) -> int:
    """Index of the joint's scale."""
    return int(template.limb[template.body.joint(joint)])


def _inside(mesh: Mesh, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, " points"]:
    """1 for points in the character or near its surface, less for those outside: joints lie in
    the body, so that a key-point in the air between the legs is an error of the detector."""
    height = float(np.ptp(mesh.vertices[:, 1]))
    samples, normals = sample_surface(mesh.vertices, mesh.faces, SURFACE_SAMPLES)
    distance, near = KDTree(samples).query(points, k=8)
    side = ((points[:, None] - samples[near]) * normals[near]).sum(-1)
    outside = (side > 0).mean(1) > 0.5
    return np.where(outside & (distance[:, 0] > OUTSIDE * height), 0.1, 1.0)


def _trust(names: tuple[str, ...]) -> Float[np.ndarray, " points"]:
    """How well a detector's key-point and the body's point of that name agree."""
    trust = []
    for n in names:
        if "_hand_" in n:
            trust.append(0.15)
        elif n.endswith(HAND_TIPS):
            trust.append(0.2)
        elif n.endswith(("_ear", "_eye", "nose", "_heel", "_foot_index")):
            trust.append(0.3)
        else:
            trust.append(1.0)
    return np.array(trust)


def _start(
    template: ScaledTemplate, points: TemplatePoints, names: tuple[str, ...], target: np.ndarray
) -> TemplatePose:
    """The mean body, turned about the vertical, scaled and moved so that the torsos meet."""
    pose = template.start()
    torso = [names.index(n) for n in TORSO if n in names] or list(range(len(names)))
    rest = template.place(points, pose)[torso]
    scale, R, _ = similarity(rest, target[torso])
    step = np.zeros(template.size)
    step[template.columns["log_scale"]] = np.log(scale)
    yaw = np.arctan2(R[0, 2] - R[2, 0], R[0, 0] + R[2, 2])
    step[template.columns["rotations"].start + 1] = yaw
    pose = template.moved(pose, step)
    step[:] = 0
    step[template.columns["translation"]] = (
        target[torso] - template.place(points, pose)[torso]
    ).mean(0)
    return template.moved(pose, step)


def _fit_surface(
    template: ScaledTemplate,
    pose: TemplatePose,
    keypoints: _KeypointTerm,
    prior: Prior,
    mesh: Mesh,
    height: float,
    stages: tuple[tuple[float, int], ...],
) -> tuple[TemplatePose, float]:
    """Nearest points with agreeing normals, both ways, under a shrinking robust distance."""
    body = template.body
    ids = template_samples(body)
    points, whole = template.vertices(ids), template.vertices()
    samples, sample_normals = sample_surface(mesh.vertices, mesh.faces, SURFACE_SAMPLES)
    tree = KDTree(samples)
    planes = sample_normals[:, :, None] * sample_normals[:, None] + POINT_TO_POINT * np.eye(3)
    unit = SURFACE_WEIGHT / (0.02 * height) ** 2
    median = float("nan")
    for share, rounds in stages:
        sigma = share * height
        for _ in range(rounds):
            own_normals = vertex_normals(template.place(whole, pose), body.faces)[ids]
            x, J = template.jacobian(points, pose)
            near, w = _matches(x, own_normals, tree, samples, sample_normals, sigma)
            back, w_back = _matches(samples, sample_normals, KDTree(x), x, own_normals, sigma)
            median = float(np.median(np.linalg.norm(samples[near] - x, axis=1)))
            A = (unit / len(w) * w)[:, None, None] * planes[near]
            b = np.einsum("pab,pb->pa", A, samples[near] - x)
            A_back = (unit / len(w_back) * w_back)[:, None, None] * planes
            b_back = np.einsum("pab,pb->pa", A_back, samples - x[back])
            np.add.at(A, back, A_back)
            np.add.at(b, back, b_back)
            normal = prior.normal(pose)
            keypoints.add(normal, pose, 0.02 * height)
            normal.add_points(J, A, b)
            pose = template.moved(pose, normal.step(rotations=template.columns["rotations"]))
    return pose, median


def _matches(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    tree: KDTree,
    targets: Float[np.ndarray, "m 3"],
    target_normals: Float[np.ndarray, "m 3"],
    sigma: float,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The nearest target whose normal agrees, and a Geman-McClure weight."""
    distance, index = (np.asarray(a) for a in tree.query(points, k=8))
    agree = (normals[:, None] * target_normals[index]).sum(-1)
    cost = distance + np.where(agree > 0.4, 0, 1e3)
    best = cost.argmin(1)
    rows = np.arange(len(points))
    d, a = distance[rows, best], agree[rows, best]
    weight = np.clip(a, 0, 1) / (1 + (d / sigma) ** 2) ** 2
    return index[rows, best], np.where(a > 0.4, weight, 0.0)


def template_samples(body: LinearBody, count: int = 2500) -> Int[np.ndarray, " points"]:
    """Template vertices for surface terms: thinned where the mesh is fine, eyes left out."""
    piece = components(len(body.template), body.faces)
    largest = int(np.bincount(piece).argmax())
    v = body.template.numpy().astype(np.float64)
    cell = 0.014
    keys = np.floor(v / cell).astype(np.int64)
    _, first = np.unique(keys, axis=0, return_index=True)
    first = first[piece[first] == largest]
    return np.sort(first)[:: max(1, len(first) // count)]
