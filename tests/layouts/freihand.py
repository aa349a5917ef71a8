"""Writes known right hands as FreiHAND (v2) has them on disk."""

import json

import cv2
import numpy as np

from rendered_hands import known_hands

SIDE = 224
K = np.array([[480.0, 0, 111.0], [0, 480.0, 113.0], [0, 0, 1]])
"""Of pixel indices: a pixel's centre is at whole numbers."""
FOLDERS = {"train": "training", "val": "evaluation"}
GAINS = {"gs": 1.0, "hom": 0.8, "sample": 0.6, "auto": 0.4}
"""What tells the four pictures of a hand apart: its brightness. In FreiHAND it is the background."""


def write_freihand(root, split="train", count=3, pose_mean=0.0, truth=True):
    """Write so many hands and return them.

    Args:
        root: The folder FreiHAND_pub_v2.
        split: "train" writes four pictures and a mask of each, "val" one picture.
        count: How many hands.
        pose_mean: The hand model's mean pose, which the written poses are relative to.
        truth: Whether the evaluation comes with what was published later.
    """
    hands = known_hands(count, K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]), SIDE, SIDE)
    folder = root / FOLDERS[split]
    for name in ("rgb", *(["mask"] if split == "train" else [])):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, hand in enumerate(hands):
        for version, gain in enumerate(GAINS.values() if split == "train" else [1.0]):
            picture = np.rint(gain * hand.image).astype(np.uint8)
            cv2.imwrite(str(folder / "rgb" / f"{version * count + number:08d}.jpg"), picture[..., ::-1])
        if split == "train":
            mask = np.where(hand.mask >= 128, np.uint8(255), np.uint8(0))
            cv2.imwrite(str(folder / "mask" / f"{number:08d}.jpg"), cv2.merge([mask] * 3))

    annotation = {"K": [K] * count, "scale": [scale(hand) for hand in hands]}
    if split == "train" or truth:
        annotation["xyz"] = [hand.joints_3d for hand in hands]
        annotation["verts"] = [hand.vertices for hand in hands]
        annotation["mano"] = [mano(hand, pose_mean)[None] for hand in hands]
    for field, entries in annotation.items():
        write_json(root, split, field, [np.asarray(entry).tolist() for entry in entries])
    return hands


def write_json(root, split, field, entries):
    (root / f"{FOLDERS[split]}_{field}.json").write_text(json.dumps(entries))


def read_json(root, split, field):
    return json.loads((root / f"{FOLDERS[split]}_{field}.json").read_text())


def scale(hand):
    return np.linalg.norm(hand.joints_3d[9] - hand.joints_3d[10])


def mano(hand, pose_mean):
    """Return 48 pose numbers, 10 of shape, and where and how large the root (joint 9) is."""
    root = K @ hand.joints_3d[9]
    return np.concatenate(
        [hand.global_orient, hand.hand_pose - pose_mean, hand.betas, root[:2] / root[2], [K[0, 0] / root[2]]]
    )
