"""How long the bones are that bodies are fitted to, and how far fitted joints bend.

The factors of `mvai.reconstruct.lengthen` are the inverse of the first; the second says what too
short or too long bones do: the fit bends limbs to put their ends where the landmarks are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mvai.evaluate.tables import Column, markdown_table
from mvai.geometry.rigid import degrees_between, unit
from mvai.reconstruct.lengthen import CHAIN, HEAD, LENGTHENED, TRUNK
from mvai.train.smoothing_clips import LIMB_JOINTS
from mvai.types.names import BODY_KEYPOINTS

EARS = ("left_ear", "right_ear")
POINTS = (*LIMB_JOINTS, *EARS)
"""What angles are told from."""
FACTORS = LENGTHENED | {"trunk": TRUNK, "head": HEAD}
ANGLES = ("elbow", "knee", "upper arm forward", "neck forward of the trunk")
QUARTERS = ("first", "second", "third", "fourth")
BOTH = "validation, train"
GROUPS = {
    "validation": ("validation",),
    "train": ("train",),
    BOTH: ("validation", "train"),
    "test": ("test",),
}
"""Settings are found on the third, nothing on the last."""

BONE_COLUMNS = (
    Column("landmarks of", "method"),
    Column("weights", "weights"),
    Column("bone, by its end", "bone"),
    Column("validation", "validation", 3),
    Column("train", "train", 3),
    Column(BOTH, BOTH, 3),
    Column("its quartiles", "quartiles"),
    Column("its inverse", "inverse", 3),
    Column("factor in use", "factor", 2),
    Column("test", "test", 3),
)
ANGLE_COLUMNS = (
    Column("method", "method"),
    Column("weights", "weights"),
    Column("clips", "group"),
    Column("angle", "angle"),
    Column("number", "count", 0),
    Column("median error °", "error", 1),
    *(Column(f"{q} quarter", q) for q in QUARTERS),
)

Points = Float[np.ndarray, "frames points 3"]


def bones() -> dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Kind, and start and end (the middle of some landmarks) of every bone of `lengthened`."""
    found = {}
    for part in LENGTHENED:
        for side in ("left", "right"):
            start = (f"{side}_{CHAIN[part]}",) if part in CHAIN else both(part)
            found[f"{side}_{part}"] = part, start, (f"{side}_{part}",)
    found["trunk"] = "trunk", both("hip"), both("shoulder")
    found["head"] = "head", both("shoulder"), EARS
    return found


def both(part: str) -> tuple[str, ...]:
    """The two landmarks of a part."""
    return tuple(f"{side}_{part}" for side in ("left", "right"))


def middle(points: Points, of: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Mean of some of the points in every frame."""
    return points[:, [of.index(n) for n in names]].mean(1)


def bone_ratios(
    landmarks: Float[np.ndarray, "frames 33 3"], true: Float[np.ndarray, "frames 33 3"]
) -> dict[str, float]:
    """Median length in a clip over the true one, `bone NAME` for each of `bones`."""

    def length(points: Points, start: Sequence[str], end: Sequence[str]) -> float:
        a, b = (middle(points, BODY_KEYPOINTS, names) for names in (start, end))
        return float(np.median(np.linalg.norm(b - a, axis=-1)))

    return {
        f"bone {name}": length(landmarks, start, end) / length(true, start, end)
        for name, (_, start, end) in bones().items()
    }


def angles_deg(points: Points) -> dict[str, Float[np.ndarray, " frames"]]:
    """`SIDE ANGLE` for each of `ANGLES` in every frame, from `POINTS` in right-handed axes.

    Elbow and knee: 0 when straight. Upper arm: 0 along the trunk, 90 straight ahead, as seen from
    the side. Neck: from the middle of the shoulders to that of the ears, 0 in line with the trunk,
    likewise.
    """

    def of(*names: str) -> np.ndarray:
        return middle(points, POINTS, names)

    chest = of(*both("shoulder"))
    up = unit(chest - of(*both("hip")))
    across = of("left_shoulder") - of("right_shoulder")
    ahead = np.cross(unit(across - up * (across * up).sum(-1, keepdims=True)), up)

    def seen_from_the_side(way: np.ndarray) -> np.ndarray:
        return np.degrees(np.arctan2((way * ahead).sum(-1), (way * up).sum(-1)))

    def bend(start: str, joint: str, end: str) -> np.ndarray:
        return degrees_between(of(joint) - of(start), of(end) - of(joint))

    found = {"neck forward of the trunk": seen_from_the_side(of(*EARS) - chest)}
    for s in ("left", "right"):
        found[f"{s} elbow"] = bend(f"{s}_shoulder", f"{s}_elbow", f"{s}_wrist")
        found[f"{s} knee"] = bend(f"{s}_hip", f"{s}_knee", f"{s}_ankle")
        # A hanging arm points down: turned round, its angle is 0 and does not jump.
        way = of(f"{s}_shoulder") - of(f"{s}_elbow")
        found[f"{s} upper arm forward"] = -seen_from_the_side(way)
    return found


def angle_errors(found: Points, true: Points) -> dict[str, float]:
    """Of every angle the clip's median true value, error with its sign, and error without."""
    values = {}
    was = angles_deg(true)
    for name, angle in angles_deg(found).items():
        off = (angle - was[name] + 180) % 360 - 180
        values[f"{name}, true"] = float(np.median(was[name]))
        values[f"{name}, off"] = float(np.median(off))
        values[f"{name}, error"] = float(np.median(np.abs(off)))
    return values


Rows = Sequence[Mapping[str, Any]]


def grouped(rows: Rows) -> dict[tuple[str, str], dict[str, Rows]]:
    """Rows of every method with its weights, by those of `GROUPS` that it has."""
    out: dict[tuple[str, str], dict[str, Rows]] = {}
    for key in dict.fromkeys((r["method"], r["weights"]) for r in rows):
        own = [r for r in rows if (r["method"], r["weights"]) == key]
        groups = {name: [r for r in own if r["pool"] in pools] for name, pools in GROUPS.items()}
        out[key] = {name: group for name, group in groups.items() if group}
    return out


def bone_summary(rows: Rows) -> list[dict[str, Any]]:
    """Of every kind of bone the median over clips and sides, in every group."""
    kinds: dict[str, list[str]] = {}
    for name, (kind, *_) in bones().items():
        kinds.setdefault(kind, []).append(f"bone {name}")
    out = []
    for key, groups in grouped([r for r in rows if "bone trunk" in r]).items():
        for kind, names in kinds.items():
            row = {"method": key[0], "weights": key[1], "bone": kind, "factor": FACTORS[kind]}
            for group, own in groups.items():
                ratios = [r[n] for r in own for n in names]
                lower, row[group], upper = np.percentile(ratios, [25, 50, 75])
                if group == BOTH:
                    row |= {"quartiles": f"{lower:.2f}, {upper:.2f}", "inverse": 1 / row[group]}
            out.append(row)
    return out


def angle_summary(rows: Rows) -> list[dict[str, Any]]:
    """Of every angle the median error, and what it is in quarters of the clips by the true one."""
    out = []
    for key, groups in grouped(rows).items():
        for group in (BOTH, "test"):
            for angle in ANGLES:
                names = (angle, *(f"{side} {angle}" for side in ("left", "right")))
                values = np.array(
                    [[r[f"{n}, {k}"] for k in ("true", "off", "error")]
                     for r in groups.get(group, ()) for n in names if f"{n}, true" in r]
                )  # fmt: skip
                if not len(values):
                    continue
                row = {"method": key[0], "weights": key[1], "group": group, "angle": angle}
                row |= {"count": len(values), "error": np.median(values[:, 2])}
                values = values[np.argsort(values[:, 0], kind="stable")]
                for quarter, part in zip(QUARTERS, np.array_split(values, 4), strict=True):
                    if len(part):
                        true, off, _ = np.median(part, axis=0)
                        row[quarter] = f"{off:+.1f} at {true:.0f}"
                out.append(row)
    return out


def sections(rows: Rows) -> str:
    """The part of the Markdown page on bones and angles."""
    return f"""## Bones

{markdown_table(BONE_COLUMNS, bone_summary(rows))}
- A bone's median length in a clip over the true one, in the landmarks that bodies are fitted to;
  median over clips and both sides. These are the landmarks before `reconstruct/lengthen.py` makes
  them longer: its factors should be the inverse on validation and training clips.
- Hip and shoulder begin in the middle between the two, the head between the shoulders (to the
  middle of the ears); all others at the joint before.

## Angles

{markdown_table(ANGLE_COLUMNS, angle_summary(rows))}
- Degrees; elbow and knee are 0 when straight, the upper arm when it hangs along the trunk, the
  neck (from the middle of the shoulders to that of the ears) when it goes on as the trunk does;
  upper arm and neck are seen from the side of the trunk.
- Median error: of clips' medians, without sign, left and right by themselves. Quarters: the same
  values in order of the true angle, in four equal groups, smallest first: what the fit has too
  much (+) or too little, and the true angle, both medians.
"""
