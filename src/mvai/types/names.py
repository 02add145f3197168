"""Names of joints and key-points, shared by detectors, bodies and characters.

Joints are those of the SMPL-H family (22 body joints and 15 a hand) under the names of the
Mixamo rig, which animation tools understand without a mapping. Key-points carry
MediaPipe's names; what other detectors see is renamed to them on reading.
"""

SIDES = ("Left", "Right")
FINGERS = ("Thumb", "Index", "Middle", "Ring", "Pinky")

BODY_JOINTS = (
    "Hips",
    "LeftUpLeg", "LeftLeg", "LeftFoot", "LeftToeBase",
    "RightUpLeg", "RightLeg", "RightFoot", "RightToeBase",
    "Spine", "Spine1", "Spine2",
    "LeftShoulder", "LeftArm", "LeftForeArm", "LeftHand",
    "Neck", "Head",
    "RightShoulder", "RightArm", "RightForeArm", "RightHand",
)  # fmt: skip
"""The 22 body joints, root first; the 21 others carry the pose prior."""

BODY_KEYPOINTS = (
    "nose",
    "left_eye_inner", "left_eye", "left_eye_outer",
    "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist",
    "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "left_heel", "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip
"""MediaPipe's 33 body landmarks, in its order."""

EXTRA_KEYPOINTS = (
    "neck", "mid_hip", "head_top",
    "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe",
)  # fmt: skip
"""Points other detectors see (OpenPose BODY_25 and BODY_25B) that MediaPipe has no name for."""

HAND_POINTS = ("wrist", *(f"{finger.lower()}_{i}" for finger in FINGERS for i in (1, 2, 3, 4)))
"""The 21 points of a hand in MediaPipe's and OpenPose's common order; `_4` is the finger tip."""

LEFT_HAND_KEYPOINTS = tuple(f"left_hand_{p}" for p in HAND_POINTS)
RIGHT_HAND_KEYPOINTS = tuple(f"right_hand_{p}" for p in HAND_POINTS)

FACE_KEYPOINTS = (
    *(f"face_brow_right_{i}" for i in range(5)),
    *(f"face_brow_left_{i}" for i in range(5)),
    *(f"face_nose_bridge_{i}" for i in range(4)),
    *(f"face_nose_base_{i}" for i in range(5)),
    *(f"face_eye_right_{i}" for i in range(6)),
    *(f"face_eye_left_{i}" for i in range(6)),
    *(f"face_lip_outer_{i}" for i in range(12)),
    *(f"face_lip_inner_{i}" for i in range(8)),
)
"""The 51 inner face points of the iBUG-68 order (jaw line left out), the order of OpenPose."""

KEYPOINTS = (
    *BODY_KEYPOINTS,
    *EXTRA_KEYPOINTS,
    *LEFT_HAND_KEYPOINTS,
    *RIGHT_HAND_KEYPOINTS,
    *FACE_KEYPOINTS,
)
"""Every key-point name, in storage order."""


def mirrored(name: str) -> str:
    """The name of the same joint or key-point on the other side of the body."""
    for a, b in (("left", "right"), SIDES):
        if a in name:
            return name.replace(a, b)
        if b in name:
            return name.replace(b, a)
    return name
