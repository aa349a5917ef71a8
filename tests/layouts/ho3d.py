"""Writes known right hands as HO-3D v2 and v3 have them on disk."""

import json
import pickle

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from hamr_lightning.skeleton import JOINT_NAMES
from mano_files import python_2_pickle
from rendered_hands import known_hands

WIDTH, HEIGHT = 640, 480
K = np.array([[617.343, 0, 312.42], [0, 617.343, 241.42], [0, 0, 1]])
"""Of pixel indices: a pixel's centre is at whole numbers."""
FOLDERS = {"train": "train", "val": "evaluation"}
OPENGL = np.diag([1.0, -1.0, -1.0])
ORDER = (
    *("wrist", "index_1", "index_2", "index_3", "middle_1", "middle_2", "middle_3", "pinky_1", "pinky_2", "pinky_3"),
    *("ring_1", "ring_2", "ring_3", "thumb_1", "thumb_2", "thumb_3"),
    *("thumb_tip", "index_tip", "middle_tip", "ring_tip", "pinky_tip"),
)
PICTURES = {"v2": ".png", "v3": ".jpg"}
SEGMENTATIONS = {"v2": ".jpg", "v3": ".png"}
HAND_COLOURS = {"v2": (255, 0, 0), "v3": (0, 0, 255)}
OBJECT_COLOURS = {"v2": (0, 0, 255), "v3": (0, 255, 0)}
FRAMES = {"train": ("ABF10/0000", "ABF10/0003", "MC1/0001"), "val": ("SM1/0000", "AP10/0002")}


def write_ho3d(root, version="v3", split="train", truth=False):
    """Write the hands that the list names, and return them.

    Args:
        root: The folder HO3D_v2 or HO3D_v3.
        version: "v2" or "v3".
        split: "train" comes with segmentations, "val" with the root joints and boxes alone.
        truth: Whether the evaluation comes with what was published later.
    """
    frames = FRAMES[split]
    hands = known_hands(len(frames), K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]), WIDTH, HEIGHT)
    for frame, hand in zip(frames, hands, strict=True):
        sequence, number = frame.split("/")
        folder = root / FOLDERS[split] / sequence
        write_picture(folder / "rgb" / f"{number}{PICTURES[version]}", hand.image)
        write_meta(folder / "meta" / f"{number}.pkl", meta(hand, split))
        if split == "train":
            write_picture(folder / "seg" / f"{number}{SEGMENTATIONS[version]}", segmentation(hand.mask, version))
    (root / f"{FOLDERS[split]}.txt").write_text("\n".join(frames) + "\n")
    if truth:
        for field, arrays in {"xyz": [joints(hand) for hand in hands], "verts": [vertices(h) for h in hands]}.items():
            write_truth(root, field, [array.tolist() for array in arrays])
    return hands


def write_picture(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1])


def write_meta(path, fields):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(python_2_pickle(fields))


def read_meta(path):
    return pickle.loads(path.read_bytes(), encoding="latin1")


def write_truth(root, field, entries):
    (root / f"evaluation_{field}.json").write_text(json.dumps(entries))


def joints(hand):
    return hand.joints_3d[[JOINT_NAMES.index(name) for name in ORDER]] @ OPENGL


def vertices(hand):
    return hand.vertices @ OPENGL


def meta(hand, split):
    """Return a picture's annotation, the thing's among it, which is of no use here."""
    fields = {"camMat": K, "objName": "021_bleach_cleanser", "objLabel": 12, "objRot": np.zeros((3, 1))}
    if split == "val":
        corners = [*hand.joints_2d_px.min(axis=0), *hand.joints_2d_px.max(axis=0)]
        return fields | {"handJoints3D": joints(hand)[0], "handBoundingBox": [float(value) - 0.5 for value in corners]}
    orient = (Rotation.from_matrix(OPENGL) * Rotation.from_rotvec(hand.global_orient)).as_rotvec()
    return fields | {
        "handPose": np.concatenate([orient, hand.hand_pose]),
        "handTrans": np.zeros(3),
        "handBeta": hand.betas,
        "handJoints3D": joints(hand),
        "handVertContact": np.zeros(778, bool),
    }


def segmentation(mask, version):
    """Return a picture of a quarter of the resolution, with a thing beside the hand."""
    small = cv2.resize(mask, (WIDTH // 4, HEIGHT // 4), interpolation=cv2.INTER_AREA) >= 128
    picture = np.zeros((HEIGHT // 4, WIDTH // 4, 3), np.uint8)
    picture[:6, :10] = OBJECT_COLOURS[version]
    picture[small] = HAND_COLOURS[version]
    return picture
