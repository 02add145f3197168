"""Who is in the clip: every person in frames spread over it, found with MediaPipe.

MediaPipe's pose detector returns the most salient person only. Others are found by painting
that one over and looking again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mvai.detect.mediapipe_import import solution
from mvai.detect.quiet import quiet_graph
from mvai.detect.shots import cuts_of, thumbnail
from mvai.detect.track import Sighting, Track, box_at, importance, link, overlap
from mvai.detect.upside_down import QUARTERS, inverted, trunk, turned, turned_back
from mvai.io.video import Frame, Video

SPACING_S = 0.5
"""Seconds between the frames that are searched."""
MOST_PEOPLE = 4
"""How many people a frame is searched for."""
TORSO = [11, 12, 24, 23]
"""Shoulders and hips among the 33 body landmarks, in order around the torso."""
GRAY = 128
CROPS = (0.15, 0.4)
"""Margins of the crops in which somebody is looked for again, of the longer side of the box."""
SAME_PLACE = 0.3
"""Overlap of two boxes of one person. In 300 training clips 85 % of 135 true and 20 % of 121
mistaken sightings among several are found again so."""
MIN_VISIBLE = 0.5
MIN_IMPORTANCE = 0.04
"""People of less than this part of the main person's area and time are not counted."""

Finder = Callable[[Frame], Float[np.ndarray, "33 3"] | None]


def find_people(video: Video, find: Finder) -> tuple[list[Track], tuple[int, ...]]:
    """Tracks of all people, the largest and most complete first, and the frames that begin a shot.

    Nobody is followed from one shot to another.

    Args:
        video: scaled to the size that detection runs at; boxes are in its pixels.
        find: from an RGB frame to (33, 3) landmarks (x, y from 0 to 1, visibility), or None.
    """
    step = max(1, round(SPACING_S * video.fps))
    steps, small = [], []
    for i, image in enumerate(video.iterate(step=step)):
        steps.append(people_in(image, i * step, find))
        small.append(thumbnail(image))
    cuts = cuts_of(video, small)
    tracks = link(steps, video.fps, cuts)
    # What is small or brief beside the main person is mostly a coat on a chair.
    least = MIN_IMPORTANCE * max(map(importance, tracks), default=0.0)
    known = [t for t in tracks if importance(t) >= least and (len(t) > 1 or len(steps) < 4)]
    return known, cuts


def people_in(image: Frame, frame: int, find: Finder) -> list[Sighting]:
    """Everybody in one frame.

    Where there seem to be several, furniture may be among them: then only those count who are
    found again in a picture of themselves alone, unless that is nobody.
    """
    import cv2

    height, width = image.shape[:2]
    remaining = image.copy()
    people: list[Sighting] = []
    scenes: list[Frame] = []
    while len(people) < MOST_PEOPLE:
        landmarks = find(remaining)
        if landmarks is None:
            break
        xy_px = landmarks[:, :2] * (width, height)
        person = sighting(image, xy_px, landmarks[:, 2], frame, len(people))
        if person is None or any(overlap(person.box_px, p.box_px) > 0.6 for p in people):
            break
        people.append(person)
        scenes.append(remaining.copy())
        hull = cv2.convexHull(xy_px[landmarks[:, 2] > 0.1].astype(np.int32))
        rim = max(3, int(0.12 * person.size_px))
        cv2.drawContours(remaining, [hull], -1, (GRAY,) * 3, cv2.FILLED)
        cv2.drawContours(remaining, [hull], -1, (GRAY,) * 3, rim)
    if len(people) < 2:
        return people
    real = [p for p, scene in zip(people, scenes, strict=True) if found_alone(p, scene, find)]
    return real or people


def found_alone(person: Sighting, scene: Frame, find: Finder) -> bool:
    """Whether somebody is found where `person` is in crops around them."""
    for by in CROPS:
        x0, y0, x1, y1 = _grown(person.box_px, by, scene)
        if x1 - x0 < 2 or y1 - y0 < 2:
            continue
        crop = np.ascontiguousarray(scene[y0:y1, x0:x1])
        landmarks = find(crop)
        if landmarks is None:
            continue
        xy_px = landmarks[:, :2] * (x1 - x0, y1 - y0)
        again = sighting(crop, xy_px, landmarks[:, 2], person.frame)
        corner = np.array([x0, y0, x0, y0])
        if again and overlap(again.box_px + corner, person.box_px) > SAME_PLACE:
            return True
    return False


def sighting(
    image: Frame | None,
    xy_px: Float[np.ndarray, "33 2"],
    visibility: Float[np.ndarray, " 33"],
    frame: int,
    index: int = 0,
) -> Sighting | None:
    """Box, completeness and clothing of a detected body; None when there is hardly a body."""
    seen = (visibility > MIN_VISIBLE) & np.isfinite(xy_px).all(axis=1)
    if image is not None:
        # What is guessed beyond the border is not seen; mistakes often reach far outside.
        seen &= ((xy_px >= 0) & (xy_px <= image.shape[1::-1])).all(axis=1)
    if seen.sum() < 6 or not seen[TORSO].any():
        return None
    box = np.concatenate([xy_px[seen].min(axis=0), xy_px[seen].max(axis=0)])
    torso = xy_px[TORSO]
    appearance = None
    if image is not None and np.isfinite(torso).all():
        appearance = _clothing(image, torso)
    return Sighting(frame, box, float(visibility[seen].sum() / 33), index, appearance)


def _clothing(
    image: Frame, torso_px: Float[np.ndarray, "4 2"]
) -> Float[np.ndarray, " bins"] | None:
    """Histogram over 4 x 4 x 4 colours of what lies within the torso."""
    import cv2

    height, width = image.shape[:2]
    x0, y0 = np.clip(torso_px.min(axis=0).astype(int), 0, (width, height))
    x1, y1 = np.clip(np.ceil(torso_px.max(axis=0)).astype(int) + 1, 0, (width, height))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    patch = image[y0:y1, x0:x1]
    mask = np.zeros(patch.shape[:2], np.uint8)
    # A torso seen edge-on has no area, so its outline is drawn with some width.
    corners = (torso_px - (x0, y0)).astype(np.int32)
    cv2.fillConvexPoly(mask, cv2.convexHull(corners), (255,))
    cv2.polylines(mask, [corners], True, (255,), max(1, int(0.1 * (y1 - y0))))
    counts = cv2.calcHist([patch], [0, 1, 2], mask, [4, 4, 4], [0, 256] * 3).ravel()
    # Spread over neighbouring colours a little, since light changes along the way.
    counts = counts + 0.02 * counts.sum() / counts.size
    return counts / counts.sum()


@dataclass(frozen=True)
class Spotlight:
    """Paints over everybody but one, so that a one-person tracker stays with them."""

    target: Track
    others: tuple[Track, ...]
    fps: float

    def __call__(self, image: Frame, frame: int) -> Frame:
        """The frame with only the target in it."""
        if not self.others:
            return image
        reach = 1.5 * SPACING_S * self.fps
        mine = box_at(self.target, frame, reach)
        lit = image.copy()
        keep = None if mine is None else _grown(mine, 0.2, image)
        for other in self.others:
            box = box_at(other, frame, reach)
            if box is not None:
                _paint(lit, _grown(box, 0.1, image))
        if mine is None or keep is None:
            return lit
        # Nothing far from the target is of interest, known person or not.
        x0, y0, x1, y1 = _grown(mine, 0.6, image)
        stage = np.full_like(image, GRAY)
        stage[y0:y1, x0:x1] = lit[y0:y1, x0:x1]
        x0, y0, x1, y1 = keep
        stage[y0:y1, x0:x1] = image[y0:y1, x0:x1]
        return stage


def _grown(box_px: Float[np.ndarray, "4"], by: float, image: Frame) -> list[int]:
    """The box with a margin of `by` times its longer side, in whole pixels within the image."""
    margin = by * max(box_px[2:] - box_px[:2])
    limit = np.array([image.shape[1], image.shape[0]] * 2)
    grown = box_px + np.array([-margin, -margin, margin, margin])
    return [int(v) for v in np.clip(grown, 0, limit)]


def _paint(image: Frame, box: list[int]) -> None:
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = GRAY


@contextlib.contextmanager
def static_pose() -> Iterator[Finder]:
    """A finder for `find_people`: MediaPipe's pose on single images."""

    def make() -> Any:
        # Low, since what is found by mistake forms short and small tracks and is dropped.
        return solution("pose", "Pose")(
            static_image_mode=True, model_complexity=1, min_detection_confidence=0.3
        )

    with quiet_graph(make) as process:

        def find(image: Frame) -> Float[np.ndarray, "33 3"] | None:
            found = look(image)
            if found is None or not head_down(found, image):
                return found
            for quarters in QUARTERS:
                again = look(turned(image, quarters))
                if again is None:
                    continue
                again = turned_back(again, quarters)
                if not head_down(again, image):
                    return again
            return found

        def head_down(landmarks: np.ndarray, image: Frame) -> bool:
            return bool(inverted(trunk(landmarks[:, :2] * image.shape[1::-1])))

        def look(image: Frame) -> Float[np.ndarray, "33 3"] | None:
            landmarks = process(image).pose_landmarks
            if landmarks is None:
                return None
            return np.array([(p.x, p.y, p.visibility) for p in landmarks.landmark])

        yield find
