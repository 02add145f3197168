"""The file in which a user corrects the joints of a character, and the picture beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mvai.io.atomic import written_whole
from mvai.transfer.registration.find_joints import BODY_NEEDED, FoundJoints
from mvai.types import Character, MvaiError
from mvai.types.names import KEYPOINTS

FRAME = "metres; x to the character's left, y up, z the way it faces"
GIVEN = 30.0
"""Weight of a joint that the user has placed, next to one that the detector is sure of."""
VIEWS = ((0.0, 0.0), (90.0, 0.0))
SIZE_PX = 640
LIMBS = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))


def write_joints(path: Path, character: Character, found: FoundJoints) -> None:
    """Writes the joints as JSON, and a PNG of the same name that shows them.

    Raises:
        MvaiError: a file cannot be written.
    """
    main = [i for i, n in enumerate(found.names) if n in BODY_NEEDED]
    joints = {
        found.names[i]: {
            "xyz": [round(float(v), 4) for v in found.xyz_m[i]],
            "confidence": round(float(found.confidence[i]), 2),
        }
        for i in main
    }
    picture = path.with_suffix(".png")
    text = json.dumps(
        {"character": character.name, "frame": FRAME, "picture": picture.name, "joints": joints},
        indent=1,
    )
    with written_whole(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    _draw(picture, character, {n: np.array(j["xyz"]) for n, j in joints.items()},
          {n: j["confidence"] for n, j in joints.items()})  # fmt: skip


def read_joints(path: Path) -> FoundJoints:
    """The joints in a file that `write_joints` has written and a user may have changed.

    Raises:
        MvaiError: it is not such a file, or a joint is missing or unknown.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["joints"]
        xyz = {str(n): [float(v) for v in j["xyz"]] for n, j in stored.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MvaiError(
            f"{path}: no file of joints; remove it and run again to have it written anew."
        ) from error
    missing = [n for n in BODY_NEEDED if n not in xyz]
    unknown = [n for n in xyz if n not in KEYPOINTS]
    if missing or unknown:
        what = f"{missing[0]} is missing" if missing else f"{unknown[0]} is no joint's name"
        raise MvaiError(f"{path}: {what}; give every joint of the picture its place.")
    at = np.array(list(xyz.values()))
    if at.shape[1:] != (3,) or not np.isfinite(at).all():
        raise MvaiError(f"{path}: a joint's xyz is not three numbers; correct it.")
    return FoundJoints(tuple(xyz), at, np.full(len(at), GIVEN))


def _draw(
    path: Path,
    character: Character,
    joints: dict[str, np.ndarray],
    confidence: dict[str, float],
) -> None:
    """Front and side of the character with its joints, red where they are uncertain."""
    from PIL import Image, ImageDraw

    from mvai.io.render import render_views

    sheet = Image.new("RGB", (SIZE_PX * len(VIEWS), SIZE_PX))
    for k, (image, camera) in enumerate(render_views(character.mesh, VIEWS, SIZE_PX)):
        picture = Image.fromarray(image)
        draw = ImageDraw.Draw(picture)
        at = {n: tuple(camera.project(p[None])[0].tolist()) for n, p in joints.items()}
        for side in ("left", "right"):
            for a, b in LIMBS:
                ends = [at[n] for n in (f"{side}_{a}", f"{side}_{b}") if n in at]
                if len(ends) == 2:
                    draw.line(ends, fill=(255, 220, 60), width=3)
        for n, (x, y) in at.items():
            sure = confidence[n]
            color = (round(255 * (1 - sure)), round(200 * sure), 40)
            draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=color, outline=(0, 0, 0))
            draw.text((x + 8, y - 6), n.replace("_", " "), fill=(255, 255, 255))
        sheet.paste(picture, (k * SIZE_PX, 0))
    with written_whole(path) as temporary:
        sheet.save(temporary, format="PNG")
