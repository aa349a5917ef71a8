"""What the renderers' tests share: meshes, posed hands, and a reference that samples points in triangles."""

from functools import cache

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from hamr_lightning import HandModel, ManoDecoder

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
CUBE_VERTICES = np.stack(np.meshgrid([-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0], indexing="ij"), -1).reshape(8, 3)
_CUBE_SQUARES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
CUBE = np.concatenate([_CUBE_SQUARES[:, [0, 1, 2]], _CUBE_SQUARES[:, [0, 2, 3]]])


@cache
def hand_faces():
    return HandModel.load("open").faces


@cache
def posed_hands(count, seed=0):
    """Return points (count, 778, 3) of hands that fill most of the frame: fists, flat hands and others, all around."""
    random = np.random.default_rng(seed)
    curl = random.uniform(-0.1, 1.3, (count, 1))
    curl[::4], curl[1::4] = 1.3, 0.0
    pose = random.normal(0, 0.25, (count, 15, 3)) * [0.3, 0.5, 0.7]
    pose[..., 2] += curl
    orient = Rotation.random(count, random_state=seed).as_rotvec()
    decoder = ManoDecoder("open", pose_components=None, flat_hand_mean=True)
    inputs = (orient, pose.reshape(count, 45), random.normal(0, 1, (count, 10)))
    points = decoder(*(torch.tensor(array, dtype=torch.float32) for array in inputs)).vertices.double()
    low, high = points[..., :2].amin(1, keepdim=True), points[..., :2].amax(1, keepdim=True)
    points[..., :2] -= (low + high) / 2
    points *= 1.6 / (high - low).amax(2, keepdim=True)
    points[..., :2] += torch.tensor(random.uniform(-0.15, 0.15, (count, 1, 2)))
    return points.float()


def sampled_layers(points, faces, rows, columns, size, fold):
    """Count the triangles over fold x fold points in each of some pixels: (pixels, fold, fold)."""
    corners = (np.asarray(points, np.float64)[:, :2][faces] + 1) * size / 2
    offsets = (np.arange(fold) + 0.5) / fold
    layers = np.zeros((len(rows), fold, fold), np.int32)
    for (x0, y0), (x1, y1), (x2, y2) in corners:
        hit = (columns < max(x0, x1, x2)) & (columns + 1 > min(x0, x1, x2))
        hit &= (rows < max(y0, y1, y2)) & (rows + 1 > min(y0, y1, y2))
        if not hit.any() or (x1 - x0) * (y2 - y0) == (y1 - y0) * (x2 - x0):
            continue
        x, y = columns[hit][:, None, None] + offsets, rows[hit][:, None, None] + offsets[:, None]
        sides = np.stack(
            [
                (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0),
                (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1),
                (x0 - x2) * (y - y2) - (y0 - y2) * (x - x2),
            ]
        )
        layers[hit] += (sides >= 0).all(0) | (sides <= 0).all(0)
    return layers


def sampled_coverage(points, faces, size, fold=32):
    """Return the share of fold x fold points in each pixel that lie in any triangle: (size, size)."""
    rows, columns = np.divmod(np.arange(size * size), size)
    return (sampled_layers(points, faces, rows, columns, size, fold) > 0).mean((1, 2)).reshape(size, size)
