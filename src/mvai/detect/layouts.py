"""Orders of points that detectors agree on: COCO, its whole-body extension, and Halpe.

COCO: Lin et al. 2014; COCO-WholeBody: Jin et al. 2020; Halpe: Fang et al. 2022 (AlphaPose).
"""

from __future__ import annotations

from mvai.types.names import FACE_KEYPOINTS, LEFT_HAND_KEYPOINTS, RIGHT_HAND_KEYPOINTS

COCO_17 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
FEET_6 = (
    "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
JAW_17 = ("",) * 17
"""The jaw line, for which the body has no points."""
WHOLE_BODY_133 = (
    *COCO_17, *FEET_6, *JAW_17, *FACE_KEYPOINTS, *LEFT_HAND_KEYPOINTS, *RIGHT_HAND_KEYPOINTS,
)  # fmt: skip
HALPE_26 = (
    *COCO_17, "head_top", "neck", "mid_hip",
    "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe",
    "left_heel", "right_heel",
)  # fmt: skip

LAYOUTS = {len(names): names for names in (COCO_17, HALPE_26, WHOLE_BODY_133)}
"""Names by the number of points, empty for points that are not used."""
