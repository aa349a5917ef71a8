"""Writes known left hands as the Stereo Hand Pose Tracking Benchmark has them on disk."""

import cv2
import numpy as np
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from rendered_hands import known_hands

WIDTH, HEIGHT = 640, 480
K = {  # as published: of pixel indices
    "BB": np.array([[822.79041, 0, 318.47345], [0, 822.79041, 250.31296], [0, 0, 1]]),
    "SK": np.array([[607.92271, 0, 314.78337], [0, 607.88192, 236.42484], [0, 0, 1]]),
}
COLOUR_TO_DEPTH = Rotation.from_rotvec([0.00531, -0.01196, 0.00301]), np.array([-24.0381, -0.4563, -1.2326])
PICTURES = {"BB": ("BB_left", "BB_right"), "SK": ("SK_color", "SK_depth")}
SEQUENCES = {
    "train": [f"B{number}{kind}" for number in range(2, 7) for kind in ("Counting", "Random")],
    "val": ["B1Counting", "B1Random"],
}


def continuous(intrinsics):
    return intrinsics + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


def write_stb(root, split="val", frames=2):
    """Write both sequences or all ten, and return the hands by sequence and camera ("BB": left picture, "SK": colour).

    The palm's centre lies between wrist and ring finger's knuckle, where hand3d takes it to be. The pictures that are
    not of these cameras, BB_right and SK_depth, are plain.
    """
    sequences = SEQUENCES[split]
    written = {}
    for camera, intrinsics in K.items():
        hands = known_hands(frames * len(sequences), continuous(intrinsics), WIDTH, HEIGHT, left=True)
        for number, sequence in enumerate(sequences):
            written[sequence, camera] = hands[number * frames : (number + 1) * frames]
            write_sequence(root, sequence, camera, written[sequence, camera])
    return written


def write_sequence(root, sequence, camera, hands):
    labels = np.stack([to_labels(hand.joints_3d, camera) for hand in hands], axis=-1)
    (root / "labels").mkdir(parents=True, exist_ok=True)
    savemat(root / "labels" / f"{sequence}_{camera}.mat", {"handPara": labels})
    folder = root / "images" / sequence
    folder.mkdir(parents=True, exist_ok=True)
    for frame, hand in enumerate(hands):
        picture, other = PICTURES[camera]
        cv2.imwrite(str(folder / f"{picture}_{frame}.png"), hand.image[..., ::-1])
        cv2.imwrite(str(folder / f"{other}_{frame}.png"), np.full((HEIGHT, WIDTH, 3), 77, np.uint8))


def to_labels(joints, camera):
    """Return (3, 21) millimetres: the palm, then little finger to thumb, each base to tip."""
    wrist, thumb, index, middle, ring, little = np.split(1000 * joints, [1, 5, 9, 13, 17])
    palm = (wrist + ring[:1]) / 2
    millimetres = np.concatenate([palm, little, ring, middle, index, thumb])
    if camera == "SK":
        rotation, translation = COLOUR_TO_DEPTH
        millimetres = rotation.apply(millimetres) + translation
    return millimetres.T
