"""What the goblin of the shipped example wears that is not cut from its skin."""

from __future__ import annotations

import numpy as np

from mvai.geometry.surface import vertex_normals
from mvai.train.demo_modelling import (
    Figure,
    Made,
    outline,
    picture,
    textured_part,
    turned,
)

TUNIC, TRIM, LEATHER = (134, 46, 40), (222, 178, 84), (98, 66, 40)
FELT, METAL = (58, 84, 60), (214, 178, 92)


def _slice(points: np.ndarray, y: float, half_m: float = 0.015) -> tuple[np.ndarray, np.ndarray]:
    """Points near a height and the middle of their box."""
    near = points[np.abs(points[:, 1] - y) < half_m]
    centre = (near.min(0) + near.max(0)) / 2
    return near, np.array([centre[0], y, centre[2]])


def skirt(trunk: np.ndarray, waist: float, hem: float) -> Made:
    """The tunic's skirt, flared, in folds towards the hem."""
    rings = []
    near, centre = _slice(trunk, waist)
    top = outline(near, centre)
    wide = np.max(
        [outline(_slice(trunk, h)[0], centre) ** 2 for h in np.linspace(hem, waist, 9)], 0
    )
    below = np.sqrt(wide) * np.sign(top)
    angle = np.arange(len(top)) / len(top) * 2 * np.pi
    for s in np.linspace(0, 1, 12):
        ease = s * (2 - s)
        shape = top * (1 - ease) + below * ease
        reach = np.linalg.norm(shape, axis=1, keepdims=True)
        reach = reach + 0.018 + 0.045 * s + (0.012 * s * np.cos(10 * angle))[:, None]
        shape = shape / np.linalg.norm(shape, axis=1, keepdims=True) * reach
        rings.append((np.array([centre[0], waist + s * (hem - waist), centre[2]]), shape))

    def colors(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        base = np.array(TUNIC) * (1 + 0.07 * np.cos(20 * np.pi * u) * v)[..., None]
        band = ((v > 0.84) & (v < 0.95))[..., None]
        tooth = (np.abs((u * 40) % 1 - 0.5) * 0.16 + 0.70 > v) & (v > 0.68)
        base = np.where(band, TRIM, base)
        return np.where(tooth[..., None] & (v > 0.72)[..., None], TRIM, base)

    return turned("skirt", rings, colors, (512, 128))


def belt(trunk: np.ndarray, waist: float) -> Made:
    """A leather band around the waist."""
    near, centre = _slice(trunk, waist)
    base = outline(near, centre)
    unit = base / np.linalg.norm(base, axis=1, keepdims=True)
    profile = ((0.026, 0.012), (0.026, 0.025), (-0.026, 0.025), (-0.026, 0.012))
    rings = [(centre + np.array([0, h, 0]), base + unit * out) for h, out in profile]

    def colors(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        stitched = (np.abs(np.abs(v - 0.5) - 0.12) < 0.02) & ((u * 90) % 1 < 0.6)
        return np.where(stitched[..., None], (176, 132, 84), LEATHER)

    return turned("belt", rings, colors, (512, 64))


def buckle(trunk: np.ndarray, waist: float) -> Made:
    """A block of brass at the front of the belt."""
    near, _ = _slice(trunk, waist)
    front = near[np.abs(near[:, 0]) < 0.05, 2].max() + 0.026
    middle = np.array([0.0, waist, front])
    return block("buckle", middle, (0.04, 0.034, 0.012), METAL)


def block(
    name: str, middle: np.ndarray, half: tuple[float, float, float], color: tuple[int, int, int]
) -> Made:
    """A box with flat sides."""
    vertices, faces, normals, uv = [], [], [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            a, b = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
            n = sign * np.eye(3)[axis]
            first = len(vertices)
            for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                vertices.append(middle + (n + s * a * sign + t * b) * half)
                normals.append(n)
                uv.append(((s + 1) / 2, (t + 1) / 2))
            faces += [[first, first + 1, first + 2], [first, first + 2, first + 3]]
    u, v = np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 64))
    frame = (np.maximum(np.abs(u - 0.5), np.abs(v - 0.5)) > 0.33)[..., None]
    image = picture(np.where(frame, color, (92, 62, 38)))
    arrays = np.array(vertices), np.array(faces), np.array(normals), np.array(uv)
    return textured_part(name, *arrays), image


def hat(figure: Figure, head: np.ndarray) -> list[Made]:
    """A felt hat with a bent tip and a band, and a feather: parts that stay rigid on the head."""
    brow = figure.joints["Head"][1] + 0.70 * (head[:, 1].max() - figure.joints["Head"][1])
    skull = head[(np.abs(head[:, 0]) < 0.1)]
    near, centre = _slice(skull, brow, 0.02)
    base = outline(near, centre)
    unit = base / np.linalg.norm(base, axis=1, keepdims=True)
    height = head[:, 1].max() - brow
    # Height above the brim, share of the head's outline, distance added, lean to the back.
    profile = (
        (height + 0.075, 0.02, 0.0, 0.050), (height + 0.070, 0.16, 0.0, 0.048),
        (height + 0.050, 0.42, 0.0, 0.036), (height + 0.028, 0.70, 0.0, 0.022),
        (height * 0.66, 0.98, 0.002, 0.010), (0.05, 1.02, 0.012, 0.0), (0.012, 1.03, 0.014, 0.0),
        (0.0, 1.03, 0.022, 0.0), (-0.004, 1.03, 0.06, 0.0), (0.006, 1.03, 0.095, 0.0),
        (0.002, 1.03, 0.096, 0.0), (-0.010, 1.03, 0.06, 0.0), (-0.006, 1.03, 0.016, 0.0),
    )  # fmt: skip
    rings = [
        (centre + np.array([0, h, -lean]), base * share + unit * out)
        for h, share, out, lean in profile
    ]

    def colors(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        fuzz = np.random.default_rng(1).normal(1, 0.035, u.shape)[..., None]
        band = ((v > 0.40) & (v < 0.50))[..., None]
        return np.where(band, TUNIC, np.array(FELT)) * fuzz

    side = centre + np.array([0.105, 0.03, -0.01])
    s = np.linspace(0, 1, 14)
    spine = side + np.stack([0.035 * s, 0.20 * s - 0.05 * s**2, -0.02 - 0.16 * s**1.6], axis=1)
    width = 0.026 * np.sin(np.pi * np.clip(0.08 + 0.92 * s, 0, 1)) ** 0.7 + 0.001
    across = np.array([0.25, 0.45, 0.85])
    across = across / np.linalg.norm(across)
    rows = [spine + k * width[:, None] * across + [0.006 * (1 - k * k), 0, 0] for k in (-1, 0, 1)]
    vertices = np.stack(rows, axis=1).reshape(-1, 3)
    i = np.arange(13)[:, None] * 3 + np.arange(2)
    quads = np.stack([i, i + 1, i + 3, i + 4], -1).reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [1, 3, 2]]])
    uv = np.stack(np.meshgrid([0, 0.5, 1], s), -1).reshape(-1, 2)
    tu, tv = np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 128))
    quill = (np.abs(tu - 0.5) < 0.05)[..., None]
    barbs = 1 + 0.12 * np.sin(60 * (tv + np.abs(tu - 0.5)))[..., None]
    feather = picture(np.where(quill, (246, 240, 220), np.array((222, 196, 120)) * barbs))
    normals = vertex_normals(vertices, faces)
    return [
        turned("hat", rings, colors, (256, 128)),
        (textured_part("feather", vertices, faces, normals, uv), feather),
    ]
