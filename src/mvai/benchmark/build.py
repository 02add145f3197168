"""Build the benchmark: draw clips from motion capture and let the detector look at them.

Every clip is a folder of its own that appears whole or not at all, and is drawn from its own seed:
an interrupted run goes on where it stopped, and a longer run begins with the clips of a shorter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from mvai.benchmark import close_ups, stances
from mvai.benchmark.clips import POOLS, TRUTH, VIDEO, save_scene
from mvai.benchmark.close_ups import CLOSE_UPS, close_camera
from mvai.benchmark.detections import detect_clip
from mvai.benchmark.drawing import draw
from mvai.benchmark.poses import PoseClip, load_pose_clip, poses_in_folder
from mvai.benchmark.scenes import (
    HARDSHIPS,
    LOW_SIZES,
    SIZES,
    Scene,
    random_scene,
    resampled,
    varied,
)
from mvai.benchmark.settings import BenchmarkSettings
from mvai.benchmark.splits import split_of
from mvai.benchmark.stances import in_place
from mvai.benchmark.tumbling import TUMBLING, tumbling
from mvai.benchmark.work_folders import clear_leftovers, work_folder
from mvai.body.anny import anny_body
from mvai.io.atomic import make_folder
from mvai.io.video import write_video
from mvai.progress import Progress
from mvai.types import MvaiError
from mvai.types.names import BODY_JOINTS

HARD_IN_TRAINING = 0.2
"""Share of the training clips that are hard to see, too."""
STANCES = {
    "train": (stances.STANDING, stances.SEATED),
    "close": (close_ups.STANDING, close_ups.SEATED),
    "still": (0.75, 0.25),
}
"""Shares of the people who stand and sit, where not all do as captured."""
LONGEST = 300
"""Captures count by their frames when one is drawn, but not beyond this."""


def jobs(settings: BenchmarkSettings) -> list[tuple[str, int]]:
    """Pool and number of every clip, the pools evenly mixed."""
    counts = {pool: int(getattr(settings, pool)) for pool in POOLS}
    order = [((n + 0.5) / count, pool, n) for pool, count in counts.items() for n in range(count)]
    return [(pool, n) for _, pool, n in sorted(order)]


def build_benchmark(
    data: Path, out: Path, settings: BenchmarkSettings, workers: int, progress: Progress
) -> int:
    """Draw and detect the clips that are not there yet; returns how many there are.

    Args:
        data: folder of BVH files, searched with all folders in it.
        out: folder of the benchmark.
        settings: what is drawn.
        workers: processes that draw at the same time.
        progress: hears of clips done.

    Raises:
        MvaiError: a number in the settings is too small, or there is no motion capture, or none of
            the people of one of the pools.
    """
    settings.check()
    if workers < 1:
        raise MvaiError(f"workers {workers}: at least one process must draw.")
    make_folder(out)
    clear_leftovers(out)
    body = anny_body()
    captures = [c.name for c in poses_in_folder(data, body, out / "poses")
                if c.frames / c.fps * settings.rate >= settings.frames]  # fmt: skip
    pools = by_pool(captures)
    wanted = [(p, n) for p, n in jobs(settings) if not (out / p / f"{n:05d}" / TRUTH).exists()]
    for pool in {p for p, _ in wanted}:
        if not pools[pool]:
            raise MvaiError(
                f"{data}: no motion capture of {pool} people here is {settings.frames} frames long "
                f"at {settings.rate:g} frames per second; add some or ask for no such clips."
            )
    total = len(jobs(settings))
    progress(total - len(wanted), total)
    done = total - len(wanted)
    if workers == 1:
        for pool, number in wanted:
            build_clip(out, pool, number, pools[pool], settings)
            progress(done := done + 1, total)
        return total
    # Children must not inherit the parent's OpenGL and MediaPipe state.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        futures = [executor.submit(build_clip, out, p, n, pools[p], settings) for p, n in wanted]
        for future in as_completed(futures):
            future.result()
            progress(done := done + 1, total)
    return total


def by_pool(names: Sequence[str]) -> Mapping[str, list[str]]:
    """Captures of each pool; hard clips show the test people, close-ups and those who keep still
    or tumble the validation people."""
    found: dict[str, list[str]] = {pool: [] for pool in POOLS}
    for name in names:
        found[split_of(name)].append(name)
    found["hard"] = found["test"]
    found["close"] = found["still"] = found["tumbling"] = found["validation"]
    return found


@cache
def _capture(path: Path, rate: float) -> PoseClip:
    clip = load_pose_clip(path)
    assert clip is not None, f"{path} was written by this run"
    return resampled(clip, rate)


def build_clip(
    out: Path, pool: str, number: int, captures: list[str], settings: BenchmarkSettings
) -> None:
    """Draw one clip, look at it, and put it in its place."""
    scene = clip_scene(out, pool, number, captures, settings)
    (out / pool).mkdir(exist_ok=True)
    with work_folder(out, pool, number) as work:
        save_clip(work, scene)
        work.chmod(0o755)
        work.replace(out / pool / f"{number:05d}")


def clip_scene(
    out: Path, pool: str, number: int, captures: list[str], settings: BenchmarkSettings
) -> Scene:
    """The scene that a clip's own seed draws."""
    rng = np.random.default_rng([settings.seed, POOLS.index(pool), number])
    clips = [_capture(out / "poses" / f"{name}.npz", settings.rate) for name in captures]
    lengths = np.minimum([c.frames for c in clips], LONGEST).astype(float)
    capture = clips[rng.choice(len(clips), p=lengths / lengths.sum())]
    hardships = ()
    if pool == "hard" or (pool == "train" and rng.random() < HARD_IN_TRAINING):
        hardships = (HARDSHIPS[rng.integers(len(HARDSHIPS))],)
    body = anny_body()
    # Drawn apart, so that the other clips are the same with and without close-ups.
    apart = np.random.default_rng([settings.seed, POOLS.index(pool), number, 1])
    near = pool == "close" or (pool == "train" and apart.random() < CLOSE_UPS)
    if pool == "tumbling" or (pool == "train" and not near and tumbles(settings.seed, number)):
        capture = tumbling(body, capture, apart)
    elif shares := STANCES.get("close" if near else pool):
        capture = in_place(body, capture, rng, shares)
    if pool == "train":
        capture = varied(capture, rng)
    sizes = LOW_SIZES if "low resolution" in hardships else SIZES
    size = sizes[rng.integers(len(sizes))]
    seed = int(rng.integers(2**31))
    scene = random_scene(body, capture, seed, settings.frames, size, hardships)
    if not near:
        return scene
    joints, nose = scene.joints_and_points(body, ("nose",))
    joints = joints[:, [body.joint(n) for n in BODY_JOINTS]]
    return replace(scene, camera=close_camera(joints, nose[:, 0], size, apart))


def tumbles(seed: int, number: int) -> bool:
    """Whether a training clip shows somebody who tumbles, unless it is a close-up."""
    return bool(np.random.default_rng([seed, number, 2]).random() < TUMBLING)


def save_clip(folder: Path, scene: Scene) -> None:
    """The files of one clip. A clip in which nobody is found has no key-points."""
    from mvai.detect.mediapipe_holistic import MediapipeHolistic

    camera = scene.camera
    with write_video(folder / VIDEO, scene.fps, camera.width, camera.height) as writer:
        for picture in draw(anny_body(), scene):
            writer.write(picture)
    detect_clip(folder, MediapipeHolistic())
    save_scene(folder / TRUTH, scene)
