"""Who is in a frame: furniture that looks like a person in the whole picture only is nobody."""

from __future__ import annotations

import numpy as np

from mvai.detect.people import people_in
from mvai.io.video import Frame

SIZE = (240, 320)
PERSON, GHOST = (40, 40, 90, 200), (200, 60, 300, 180)


def picture() -> Frame:
    image = np.zeros((*SIZE, 3), np.uint8)
    for (x0, y0, x1, y1), color in ((PERSON, (255, 0, 0)), (GHOST, (0, 0, 255))):
        image[y0:y1, x0:x1] = color
    return image


def within(x0: float, y0: float, x1: float, y1: float, image: Frame) -> np.ndarray:
    """33 landmarks at the corners of a box."""
    height, width = image.shape[:2]
    corners = np.array([[x0, y0, width], [x1, y0, width], [x1, y1, width], [x0, y1, width]])
    return (corners / [width, height, width])[np.arange(33) % 4]


def finder(ghost_alone: bool):
    """Sees what is red, and what is blue in the whole picture; elsewhere only if `ghost_alone`."""

    def find(image: Frame) -> np.ndarray | None:
        for channel, everywhere in ((0, True), (2, ghost_alone)):
            at = np.argwhere((image[..., channel] > 200) & (image[..., 1] < 50))
            if len(at) > 200 and (everywhere or image.shape[:2] == SIZE):
                (y0, x0), (y1, x1) = at.min(0), at.max(0)
                return within(x0, y0, x1, y1, image)
        return None

    return find


def test_two_people_are_two():
    assert len(people_in(picture(), 0, finder(ghost_alone=True))) == 2


def test_who_is_not_found_alone_is_nobody():
    (only,) = people_in(picture(), 0, finder(ghost_alone=False))
    assert abs(only.centre_px - [65, 120]).max() < 5


def test_one_who_is_alone_needs_no_second_look():
    image = picture()
    image[..., 0] = 0
    (only,) = people_in(image, 0, finder(ghost_alone=False))
    assert abs(only.centre_px - [250, 120]).max() < 5
