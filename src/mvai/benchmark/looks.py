"""How a drawn person and the room behind them look: clothes, hair, light, background.

None of it moves a joint. Clothes and hair stand off the skin, so that the outline a detector sees
is not that of the naked body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from mvai.body.model import LinearBody
from mvai.io.render import Lights
from mvai.types.names import SIDES


@dataclass(frozen=True)
class Looks:
    """One person's clothes and hair."""

    colors: UInt8[np.ndarray, "verts 3"]
    thickness_m: Float[np.ndarray, " verts"]
    """How far cloth or hair stands off the skin."""


def random_looks(body: LinearBody, rng: np.random.Generator) -> Looks:
    """Skin, hair, shirt, trousers and shoes, cut along the bones; patterned and loose or tight."""
    names = np.array(body.joints)[body.strongest_joint]
    rest = body.template.numpy()
    colors = np.tile(np.array([224, 172, 140]) * rng.uniform(0.4, 1.12), (len(rest), 1))
    thickness = np.zeros(len(rest))
    for part, loosest_m in (
        (shirt(names, rest, rng), 0.035),
        (trousers(names, rest, rng), 0.03),
        (np.isin(names, _both("Foot", "ToeBase")), 0.012),
        (hair(names, rest, rng), 0.05),
    ):
        colors[part] = cloth(rest[part], rng)
        thickness[part] = rng.uniform(0, loosest_m) * folds(rest[part], rng)
    return Looks(np.clip(colors, 0, 255).astype(np.uint8), softened(body, thickness))


def _both(*parts: str) -> list[str]:
    return [side + part for side in SIDES for part in parts]


def shirt(names: np.ndarray, rest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vertices of the upper garment: vest, short or long sleeves."""
    covered = np.char.find(names, "Spine") >= 0
    covered |= np.isin(names, ["LeftShoulder", "RightShoulder"])
    # The neck's skin shows above the collar.
    neck = names == "Neck"
    covered |= neck & (rest[:, 1] < rest[neck, 1].mean())
    sleeves = rng.integers(3)
    covered |= np.isin(names, _both(*("Arm", "ForeArm")[:sleeves]))
    return covered


def trousers(names: np.ndarray, rest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vertices of the lower garment, from shorts to long trousers."""
    legs = (names == "Hips") | np.isin(names, _both("UpLeg", "Leg"))
    lowest, knee = rest[:, 1].min(), rest[np.isin(names, _both("Leg")), 1].max()
    hem = knee + 0.1 if rng.random() < 0.3 else lowest + rng.uniform(0.05, 0.15)
    return legs & (rest[:, 1] > hem)


def hair(names: np.ndarray, rest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vertices under the hair: the crown and the back of the head, more or less far down."""
    head = names == "Head"
    top, middle = rest[head, 1].max(), rest[head, 2].mean()
    below = top - rest[:, 1]
    crown = below < rng.uniform(0.03, 0.08)
    back = (rest[:, 2] < middle - 0.01) & (below < rng.uniform(0.12, 0.3))
    return head & (crown | back)


def cloth(points: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "n 3"]:
    """Colours of a garment: plain, striped, checked, or printed with blotches."""
    one, two = random_color(rng), random_color(rng)
    kind = rng.integers(5)
    waves = np.sin(points * rng.uniform(25, 130, 3) + rng.uniform(0, 6, 3))
    if kind <= 1:
        mix = np.zeros(len(points))
    elif kind == 2:
        mix = waves[:, rng.integers(2)] > rng.uniform(-0.5, 0.7)
    elif kind == 3:
        mix = (waves[:, 0] > 0) ^ (waves[:, 1] > 0)
    else:
        mix = folds(points, rng) > 1
    shade = 0.85 + 0.15 * folds(points, rng)[:, None]
    return (one + (two - one) * np.asarray(mix, float)[:, None]) * shade


def random_color(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """A colour from 0 to 255, mostly a dull one as in real rooms."""
    grey, bright = rng.uniform(15, 240), rng.uniform(10, 245, 3)
    return grey + rng.beta(1.0, 2.0) * (bright - grey)


def folds(points: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, " n"]:
    """A smooth random function of position, mostly between 0 and 2, mean about 1."""
    value = np.ones(len(points))
    for _ in range(4):
        direction = rng.normal(size=3) * rng.uniform(4, 30)
        value += 0.3 * np.sin(points @ direction + rng.uniform(0, 6.3))
    return np.clip(value, 0.1, 2)


def softened(body: LinearBody, values: Float[np.ndarray, " verts"]) -> np.ndarray:
    """Means over neighbours, a few times, so that a hem is a slope and not a step."""
    a, b = body.faces.ravel(), np.roll(body.faces, 1, axis=1).ravel()
    count = np.bincount(a, minlength=len(values)) + 1.0
    for _ in range(3):
        values = (values + np.bincount(a, values[b], minlength=len(values))) / count
    return values


def random_lights(rng: np.random.Generator) -> Lights:
    """A key light from anywhere above the horizon of the picture and a weaker one at the camera."""
    key = rng.uniform(0.25, 0.8)
    direction = (rng.normal(), rng.uniform(0.1, 1.5), rng.uniform(0.2, 1.5))
    return ((direction, key), ((0.0, 0.0, 1.0), rng.uniform(0.85, 1.15) - key))


def random_background(
    width: int, height: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """A wall and a floor with furniture-like boxes, blotches and noise, lit unevenly."""
    from scipy.ndimage import gaussian_filter, zoom

    horizon = int(height * rng.uniform(0.4, 0.8))
    picture = np.empty((height, width, 3))
    picture[:horizon], picture[horizon:] = random_color(rng), random_color(rng)
    for _ in range(rng.integers(0, 9)):
        w, h = rng.uniform(0.04, 0.4) * width, rng.uniform(0.05, 0.6) * height
        x, y = rng.uniform(-0.1, 1) * width, rng.uniform(-0.1, 1) * horizon
        box = np.s_[max(0, int(y)) : int(y + h), max(0, int(x)) : int(x + w)]
        picture[box] = random_color(rng)
    for grain in (7, 23, 60):
        cells = rng.normal(size=(grain, grain, 1)) * rng.uniform(0, 22)
        blotches = zoom(cells, (height / grain + 1, width / grain + 1, 1), order=1)
        picture += np.asarray(blotches)[:height, :width]
    slope = np.linspace(-1, 1, width) * rng.normal() * 20
    picture = gaussian_filter(picture + slope[None, :, None], (rng.uniform(0.3, 2.5),) * 2 + (0,))
    picture += rng.normal(size=picture.shape) * rng.uniform(0, 5)
    return np.clip(picture, 0, 255).astype(np.uint8)
