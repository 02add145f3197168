"""A clip of the benchmark on disk: a folder with the video, the truth and what was made of it.

`video.mp4` is all that a detector sees. `truth.npz` holds the body's shape and pose and the camera,
from which vertices and joints follow exactly. `keypoints.npz` and one `<backbone>.npz` a
reconstruction are archives as `mvai imitate` writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvai.benchmark.scenes import Scene
from mvai.io.archive import Archive, read_archive, write_archive
from mvai.io.atomic import written_whole
from mvai.io.folders import files_matching
from mvai.types import Camera, Keypoints, MeshSequence, MvaiError

POOLS = ("train", "validation", "test", "hard", "close", "still", "tumbling")
"""The three splits by person, harder clips of the test people, and of the validation people
close-ups, them standing or seated, and tumbling."""
VIDEO, TRUTH, KEYPOINTS = "video.mp4", "truth.npz", "keypoints.npz"


@dataclass(frozen=True)
class BenchmarkClip:
    """One clip."""

    folder: Path
    scene: Scene
    """The truth."""

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    def keypoints(self) -> Keypoints | None:
        """What the detector saw, None when it did not find the person."""
        path = self.folder / KEYPOINTS
        return read_archive(path).keypoints if path.exists() else None

    def reconstruction(self, backbone: str) -> MeshSequence | None:
        """What a backbone made of the key-points, None when there is no such result."""
        path = self.folder / f"{backbone}.npz"
        return read_archive(path).raw if path.exists() else None

    def keep(self, backbone: str, archive: Archive) -> None:
        """Store a backbone's result, whole or not at all."""
        write_archive(self.folder / f"{backbone}.npz", archive)


def save_scene(path: Path, scene: Scene) -> None:
    """Write the truth."""
    with written_whole(path) as temporary:
        np.savez_compressed(
            temporary,
            shape=scene.shape,
            rotations=scene.rotations.astype(np.float32),
            translation=scene.translation.astype(np.float32),
            K=scene.camera.K,
            T_camera_world=scene.camera.T_camera_world,
            size=[scene.camera.width, scene.camera.height],
            fps=scene.fps,
            seed=scene.seed,
            hardships=np.array(scene.hardships, dtype="U20"),
        )


def load_scene(path: Path) -> Scene:
    """Read what `save_scene` wrote.

    Raises:
        MvaiError: the file is missing, damaged or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as a:
            width, height = (int(v) for v in a["size"])
            return Scene(
                shape=a["shape"],
                rotations=a["rotations"],
                translation=a["translation"],
                camera=Camera(a["K"], width, height, a["T_camera_world"]),
                fps=float(a["fps"]),
                seed=int(a["seed"]),
                hardships=tuple(a["hardships"].tolist()),
            )
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise MvaiError(
            f"{path}: this is no clip of the benchmark, or it is damaged; build it again with "
            "`mvai benchmark build`."
        ) from error


def pools_of(benchmark: Path) -> list[str]:
    """The pools of which a benchmark has clips.

    Raises:
        MvaiError: it has none.
    """
    pools = [pool for pool in POOLS if files_matching(benchmark / pool, f"*/{TRUTH}")]
    if not pools:
        raise MvaiError(
            f"{benchmark}: there is no benchmark here; make it with `mvai benchmark build`."
        )
    return pools


def clips_in(benchmark: Path, pool: str) -> Iterator[BenchmarkClip]:
    """The finished clips of a pool in the order of their numbers.

    Raises:
        MvaiError: there are none.
    """
    folders = [p.parent for p in files_matching(benchmark / pool, f"*/{TRUTH}")]
    if not folders:
        raise MvaiError(
            f"{benchmark}: there are no {pool} clips of the benchmark here; make them with "
            "`mvai benchmark build`."
        )
    for folder in folders:
        yield BenchmarkClip(folder, load_scene(folder / TRUTH))


def seen_clips(benchmark: Path, pool: str) -> list[tuple[Scene, Keypoints]]:
    """Scenes of a pool with their key-points, those left out in which nobody was found."""
    pairs = ((c.scene, c.keypoints()) for c in clips_in(benchmark, pool))
    return [(scene, keypoints) for scene, keypoints in pairs if keypoints is not None]
