"""Hands given as they are to what evaluates predictions, and predictions made from numbers."""

from dataclasses import replace

import numpy as np
import torch

from hamr_lightning.data.base import HandDataset
from hamr_lightning.data.datamodule import HandDataModule
from hamr_lightning.types import HandParameters, HandPrediction
from rendered_hands import known_hands

K = np.array([[400.0, 0, 160], [0, 410, 118], [0, 0, 1]])
WIDTH, HEIGHT = 320, 240


class Listed(HandDataset):
    """Samples in a list; an error in the place of one is raised."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def sample(self, index, epoch=0):
        if isinstance(self.samples[index], Exception):
            raise self.samples[index]
        return self.samples[index]


def both_sides(count):
    """Return so many right hands and as many left ones, in turn, named "0", "1" and so on."""
    sides = (known_hands(count, K, WIDTH, HEIGHT, left=left) for left in (False, True))
    hands = [hand for pair in zip(*sides, strict=True) for hand in pair]
    return [replace(hand, source=str(number)) for number, hand in enumerate(hands)]


def batches_of(dataset, batch_size=4, image_size=64):
    samples = Listed(dataset) if isinstance(dataset, list) else dataset
    module = HandDataModule(None, samples, batch_size=batch_size, image_size=image_size)
    return list(module.val_dataloader())


def make_prediction(joints_3d, joints_2d, camera, vertices=None, silhouette=None, points=None):
    """Make a prediction of arrays, whatever else it holds being zero."""
    count = len(joints_3d)
    nothing = torch.zeros(count, 0)
    parameters = HandParameters(tensor(camera), nothing, nothing, nothing)
    vertices = np.zeros((count, 0, 3)) if vertices is None else vertices
    return HandPrediction(
        vertices=tensor(vertices),
        joints_3d=tensor(joints_3d),
        joints_2d=tensor(joints_2d),
        points=tensor(np.zeros_like(vertices) if points is None else points),
        parameters=parameters,
        iterations=(parameters,),
        heatmaps=torch.zeros(count, 1, 21, 4, 4),
        silhouette=None if silhouette is None else tensor(silhouette),
    )


def tensor(array):
    return torch.tensor(np.asarray(array), dtype=torch.float32)


def to_crop(points_px, crop_to_image, mirrored):
    """Return pixels of the source image in units of a crop, which is mirrored afterwards."""
    points = np.linalg.solve(crop_to_image[:, :2], (points_px - crop_to_image[:, 2]).T).T
    return points * [-1, 1] if mirrored else points


def paper_camera(joints_3d, joints_2d, valid):
    """Return the camera of mean bone lengths, in the image plane, and of the mean offset."""
    children = np.arange(1, 21)
    parents = np.where(children % 4 == 1, 0, children - 1)
    usable = valid[parents] & valid[children]
    long_2d, long_3d = (
        np.linalg.norm(points[children] - points[parents], axis=1)[usable].mean()
        for points in (joints_2d, joints_3d[:, :2])
    )
    scale = long_2d / long_3d
    return np.array([scale, *(joints_2d / scale - joints_3d[:, :2])[valid].mean(axis=0)])


def oracle(hands, renderer):
    """Return what predicts the truth of hands that are named by their place in the list."""

    def predict(batch):
        rows = [_truth(hands[int(source)], *place) for source, *place in _places(batch)]
        fields = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return make_prediction(**fields, silhouette=renderer(tensor(fields["points"])))

    return predict


def _places(batch):
    return zip(batch.sources, batch.crop_to_image.double().numpy(), batch.mirrored.tolist(), strict=True)


def _truth(hand, crop_to_image, mirrored):
    side = np.array([-1.0 if mirrored else 1.0, 1, 1])
    joints = (hand.joints_3d - hand.joints_3d[0]) * side
    joints_2d = to_crop(hand.joints_2d_px, crop_to_image, mirrored)
    seen = hand.vertices @ hand.intrinsics.T
    planar = to_crop(seen[:, :2] / seen[:, 2:], crop_to_image, mirrored)
    return {
        "joints_3d": joints,
        "joints_2d": joints_2d,
        "camera": paper_camera(joints, joints_2d, np.ones(21, dtype=bool)),
        "vertices": (hand.vertices - hand.joints_3d[0]) * side,
        "points": np.column_stack([planar, hand.vertices[:, 2]]),
    }
