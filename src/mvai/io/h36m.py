"""Human3.6M as people have it on disk: who did what before which camera, and the true joints.

Human3.6M (Ionescu et al., TPAMI 2014) may not be passed on; this reads what a user has. Four
layouts are known by their files:

- the data set's own: `S9/.../D3_Positions_mono/Directions 1.54138969.cdf` (needs cdflib);
- mmpose's `annotation_body3d/fps10/h36m_test.npz` (17 joints, camera axes, metres);
- GraphCMR's and SPIN's `h36m_valid_protocol1.npz` (24 joints, camera axes, metres);
- VideoPose3D's `data_3d_h36m.npz` (32 joints in world axes) with mmpose's `cameras.pkl`.

Pictures are the data set's videos (`S9/Videos/Directions 1.54138969.mp4`) or extracted images,
whose names end in the number of the frame, counted from 1 at 50 frames a second.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mvai.io.folders import files_matching
from mvai.io.unpickle import read_pickle
from mvai.types import MvaiError

TRAINING = ("S1", "S6", "S7", "S8")
TESTING = ("S9", "S11")
"""The subjects of Fu, Fu and Jiang (ICMR 2021)."""
FPS = 50.0
CAMERAS = ("54138969", "55011271", "58860488", "60457274")

POINTS = (
    "pelvis",
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    "neck", "head_top",
)  # fmt: skip
"""The pelvis and the 14 joints of GraphCMR's evaluation, in its order."""
OF_32 = (0, 3, 2, 1, 6, 7, 8, 27, 26, 25, 17, 18, 19, 13, 15)
"""Where they are among the data set's own 32 joints."""
KEPT_17 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
OF_17 = tuple(KEPT_17.index(i) for i in OF_32)
"""Where they are among the 17 that move."""
OF_24 = (14, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 18)
"""Where they are among GraphCMR's and SPIN's 24."""

RENAMED = {"Photo": "TakingPhoto", "WalkDog": "WalkingDog"}
"""VideoPose3D's names of actions and the data set's."""
IMAGE = re.compile(r"(S\d+)_(.+?)[._](\d{8})_(\d+)\.(?:jpg|jpeg|png)$", re.IGNORECASE)


@dataclass(frozen=True)
class H36mView:
    """One person's action before one camera."""

    subject: str
    action: str
    camera: str
    points: Float[np.ndarray, "frames 15 3"]
    """`POINTS` in camera axes, metres; the origin differs from layout to layout."""
    numbers: Int[np.ndarray, " frames"]
    """Frames at 50 a second, counted from 0, to which they belong."""
    images: tuple[Path, ...] | None
    """One a frame, where the layout names images; else the video is looked for."""

    @property
    def name(self) -> str:
        return f"{self.subject} {self.action} {self.camera}"

    @property
    def fps(self) -> float:
        """Rate of the points."""
        step = np.median(np.diff(self.numbers)) if len(self.numbers) > 1 else 1
        return FPS / float(step)


def read_h36m(folder: Path, subjects: tuple[str, ...] = TESTING) -> list[H36mView]:
    """All views of some subjects, by name.

    Raises:
        MvaiError: the folder is in none of the layouts, or a file of it cannot be read.
    """
    layouts = (_cdf, _annotations, _video_pose)
    for layout in layouts:
        views = list(layout(folder, subjects))
        if views:
            return sorted(views, key=lambda v: v.name)
    raise MvaiError(
        f"{folder}: no Human3.6M poses of {', '.join(subjects)} are found here; see `mvai evaluate "
        "h36m --help` for the files that are looked for."
    )


def middle_clip(view: H36mView, rate: float, frames: int) -> H36mView | None:
    """The middle of a view at another rate; None when it is too short.

    Raises:
        MvaiError: the poses are too sparse for the rate.
    """
    step = view.fps / rate
    if step < 0.99 or abs(step - round(step)) > 0.01:
        raise MvaiError(
            f"{view.name}: the poses are there {view.fps:g} times a second, which cannot be "
            f"sampled at {rate:g}; take annotations of a higher rate."
        )
    kept = np.arange(0, len(view.numbers), round(step))
    if len(kept) < frames:
        return None
    start = (len(kept) - frames) // 2
    kept = kept[start : start + frames]
    images = None if view.images is None else tuple(view.images[i] for i in kept)
    return H36mView(
        view.subject, view.action, view.camera, view.points[kept], view.numbers[kept], images
    )


def video_of(folder: Path, view: H36mView) -> Path:
    """The video of a view.

    Raises:
        MvaiError: it is not there.
    """
    names = {view.action, view.action.replace("_", " ")}
    for short, long in RENAMED.items():
        names |= {n.replace(short, long) for n in names if long not in n}
    for name in sorted(names):
        for place in (folder / view.subject / "Videos", folder / view.subject, folder / "Videos"):
            path = place / f"{name}.{view.camera}.mp4"
            if path.is_file():
                return path
    raise MvaiError(
        f"{folder}: the video {view.subject}/Videos/{view.action}.{view.camera}.mp4 is missing; "
        "unpack the data set's videos here."
    )


def _cdf(folder: Path, subjects: tuple[str, ...]) -> Iterator[H36mView]:
    for path in files_matching(folder, "**/*D3_Positions_mono/*.cdf"):
        inner = path.relative_to(folder).parts
        subject = next((p for p in inner if re.fullmatch(r"S\d+", p)), folder.name)
        action, _, camera = path.stem.rpartition(".")
        # The action _ALL is the others put together.
        if subject not in subjects or action.startswith("_"):
            continue
        pose = _read_cdf(path).reshape(-1, 32, 3)[:, OF_32] / 1000
        yield H36mView(subject, action, camera, pose, np.arange(len(pose)), None)


def _read_cdf(path: Path) -> np.ndarray:
    try:
        import cdflib  # type: ignore[import-not-found]
    except ImportError as error:
        raise MvaiError(
            f"{path}: reading the data set's own files needs one more package; "
            "install it with: pip install cdflib."
        ) from error
    try:
        return np.asarray(cdflib.CDF(str(path)).varget("Pose"), np.float64)
    except Exception as error:
        raise MvaiError(f"{path}: this is no CDF file with poses, or it is damaged.") from error


def _annotations(folder: Path, subjects: tuple[str, ...]) -> Iterator[H36mView]:
    """mmpose's, GraphCMR's and SPIN's tables: one row an image."""
    found = [p for part in ("test", "train") for p in files_matching(folder, f"**/h36m_{part}.npz")]
    found = found or files_matching(folder, "**/h36m_valid_protocol*.npz")
    # The highest rate, if a table is there at several; protocol 1 has all cameras, 2 only one.
    rate = {p: int(m[1]) if (m := re.search(r"fps(\d+)", str(p))) else 0 for p in found}
    found = [p for p in found if rate[p] == max(rate.values())]
    protocols = [p for p in found if "protocol" in p.name]
    for path in protocols[:1] or found:
        names, S = _table(path)
        points = S[:, OF_24 if S.shape[1] == 24 else OF_17, :3].astype(np.float64)
        parsed = [IMAGE.search(Path(n).name) for n in names]
        groups: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
        for row, match in enumerate(parsed):
            if match is None:
                raise MvaiError(f"{path}: {names[row]} is not the name of a Human3.6M image.")
            if match[1] in subjects:
                groups.setdefault((match[1], match[2], match[3]), []).append((int(match[4]), row))
        for (subject, action, camera), rows in groups.items():
            rows.sort()
            index = [row for _, row in rows]
            numbers = np.array([number for number, _ in rows]) - 1
            images = tuple(_image(folder, path, names[i]) for i in index)
            yield H36mView(
                subject, action.replace("_", " "), camera, points[index], numbers, images
            )


def _table(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as table:
            names, S = [str(n) for n in table["imgname"]], table["S"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise MvaiError(
            f"{path}: this is no table with imgname and S, or it is damaged; get it anew."
        ) from error
    if S.ndim != 3 or S.shape[0] != len(names) or S.shape[1] not in (17, 24):
        raise MvaiError(f"{path}: S has the shape {S.shape}, not images x 17 or 24 joints x 4.")
    return names, S


def _image(folder: Path, table: Path, name: str) -> Path:
    """Where an image is; the first place it could be in when it is nowhere."""
    places = [folder / name, folder / "images" / name, folder / "images" / Path(name).name]
    places.append(table.parents[min(2, len(table.parents) - 1)] / "images" / name)
    return next((p for p in places if p.is_file()), places[0])


def _video_pose(folder: Path, subjects: tuple[str, ...]) -> Iterator[H36mView]:
    for path in files_matching(folder, "**/data_3d_h36m.npz")[:1]:
        cameras = _cameras(folder, path)
        positions = _positions(path)
        for subject in subjects:
            for action, world in positions.get(subject, {}).items():
                points = np.asarray(world, np.float64)
                if points.ndim != 3 or points.shape[1:] != (32, 3):
                    raise MvaiError(f"{path}: {subject} {action} is not frames x 32 joints x 3.")
                for camera in CAMERAS:
                    if (subject, camera) not in cameras:
                        continue
                    R, t = cameras[subject, camera]
                    yield H36mView(
                        subject, action, camera, (points[:, OF_32] - t) @ R,
                        np.arange(len(points)), None,
                    )  # fmt: skip


def _positions(path: Path) -> dict[str, dict[str, Any]]:
    """`positions_3d` of VideoPose3D's file: a pickle in a zip, read without executing it."""
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            content = read_pickle(archive.extract("positions_3d.npy", folder))
        assert isinstance(content, dict)
        return content
    except (OSError, KeyError, AssertionError, zipfile.BadZipFile) as error:
        raise MvaiError(
            f"{path}: this is not VideoPose3D's file of poses, or it is damaged."
        ) from error


def _cameras(folder: Path, poses: Path) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Of mmpose's cameras.pkl: rotation from camera to world and position in the world, metres."""
    path = next(iter(files_matching(folder, "**/cameras.pkl")), None)
    if path is None:
        raise MvaiError(
            f"{poses}: these poses are in world axes; put mmpose's cameras.pkl beside them, which "
            "says where the cameras were."
        )
    try:
        content = read_pickle(path)
        return {
            (str(subject), str(camera)): (
                np.asarray(c["R"], np.float64).reshape(3, 3),
                np.asarray(c["T"], np.float64).reshape(3),
            )
            for (subject, camera), c in content.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MvaiError(f"{path}: this is not mmpose's table of cameras.") from error
