"""The pinhole camera: its matrix K, and projection by it."""

from typing import Final

import numpy as np
from jaxtyping import Float

FROM_INDICES: Final = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
"""Added to a camera matrix that puts the first pixel's centre at 0, makes one that puts it at 0.5."""


def camera_matrix(focal_x: float, focal_y: float, centre_x: float, centre_y: float) -> Float[np.ndarray, "3 3"]:
    """Return K of focal lengths and principal point, in pixels."""
    return np.array([[focal_x, 0, centre_x], [0, focal_y, centre_y], [0, 0, 1]])


def project(points: Float[np.ndarray, "*n 3"], intrinsics: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "*n 2"]:
    """Project points in the camera's axes, before it, to pixels."""
    image = points @ intrinsics.T
    return image[..., :2] / image[..., 2:]
