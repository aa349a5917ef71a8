"""Known hands, rendered for any camera: what the tests write to disk in the data sets' own layouts."""

from dataclasses import replace
from functools import lru_cache
from itertools import count, islice

import cv2
import numpy as np

from hamr_lightning.data.base import HandSample
from hamr_lightning.data.synthetic import SyntheticDataset

MIRROR = np.diag([-1.0, 1.0, 1.0])


def known_hands(number, intrinsics, width, height, left=False):
    """Return hands whose joints lie inside a picture of a given camera, with image, mask and all annotation.

    Args:
        number: How many; the first ones are always the same.
        intrinsics: The camera matrix K, (3, 3), of continuous pixel coordinates (first pixel's centre at 0.5).
        width: Of the picture in pixels.
        height: Of the picture in pixels.
        left: Whether they are left hands: right ones mirrored about the camera's y-z plane.
    """
    seen = (_seen_by(_rendered(index), intrinsics, width, height, left) for index in count())
    inside = (hand for hand in seen if _inside(hand.joints_2d_px, width, height))
    return list(islice(inside, number))


@lru_cache(maxsize=256)
def _rendered(index):
    return SyntheticDataset(split="train", count=100_000, occluders=0.0, seed=20).sample(index, 0)


def _inside(joints_px, width, height):
    return ((joints_px > 2) & (joints_px < np.array([width, height]) - 2)).all()


def _seen_by(hand: HandSample, intrinsics, width, height, left) -> HandSample:
    mirror = MIRROR if left else np.eye(3)
    to_pixels = intrinsics @ mirror @ np.linalg.inv(hand.intrinsics)
    centres = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    to_index = (np.linalg.inv(centres) @ to_pixels @ centres)[:2]
    image, mask = (
        cv2.warpAffine(picture, to_index, (width, height), flags=cv2.INTER_LINEAR)
        for picture in (hand.image, hand.mask)
    )
    joints = hand.joints_3d @ mirror
    projected = joints @ intrinsics.T
    axes = np.array([1.0, -1.0, -1.0]) if left else np.ones(3)
    return replace(
        hand,
        image=image,
        mask=mask,
        is_left=left,
        joints_3d=joints,
        joints_2d_px=projected[:, :2] / projected[:, 2:],
        vertices=hand.vertices @ mirror,
        global_orient=hand.global_orient * axes,
        hand_pose=(hand.hand_pose.reshape(15, 3) * axes).reshape(45),
        intrinsics=intrinsics,
        depth=None,
    )
