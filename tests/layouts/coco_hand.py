"""Writes known hands as a COCO-style data set."""

import json

import cv2
import numpy as np


def coco_file(hands, pixel_offset=0.5):
    """Return the JSON of hands, whose pictures are named by their place."""
    images, annotations = [], []
    for number, hand in enumerate(hands):
        height, width = hand.image.shape[:2]
        K = hand.intrinsics
        camera = {
            "focal": [K[0, 0], K[1, 1]],
            "princpt": [K[0, 2] - pixel_offset, K[1, 2] - pixel_offset],
        }
        images.append(
            {"id": 100 + number, "file_name": f"{number}.png", "width": width, "height": height, "cam_param": camera}
        )
        points = hand.joints_2d_px - pixel_offset
        low, high = points.min(axis=0), points.max(axis=0)
        annotations.append(
            {
                "id": 1000 + number,
                "image_id": 100 + number,
                "category_id": 1,
                "iscrowd": 0,
                "keypoints": np.column_stack([points, np.full(21, 2)]).ravel().tolist(),
                "bbox": [*low.tolist(), *(high - low).tolist()],
                "hand_type": "left" if hand.is_left else "right",
                "joint_cam": (1000 * hand.joints_3d).tolist(),
            }
        )
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "hand"}]}


def write_coco(root, hands, content=None, images="pictures"):
    """Write ``root/hands.json``, by default that of the hands, and their pictures; return the loader's arguments."""
    (root / images).mkdir(parents=True, exist_ok=True)
    for number, hand in enumerate(hands):
        cv2.imwrite(str(root / images / f"{number}.png"), hand.image[..., ::-1])
    (root / "hands.json").write_text(json.dumps(coco_file(hands) if content is None else content))
    return {"root": root, "train_annotation": "hands.json", "train_images": images}
