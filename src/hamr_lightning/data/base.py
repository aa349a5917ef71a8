"""What a data set gives: annotated hands in their source images, before any crop."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8


@dataclass(frozen=True)
class HandSample:
    """One annotated hand in its source image: pixels, and metres in the camera's axes (x right, y down, z forward).

    Pixel coordinates are continuous: pixel i spans [i, i + 1), so its centre is at i + 0.5. A data set whose files put
    a pixel's centre at i adds 0.5 at its border. What is not annotated is None; a joint that is not annotated is False
    in its ``_valid`` (None: all are) and finite. A left hand is given as it is in the image, with ``is_left`` set: the
    crop mirrors it.
    """

    image: UInt8[np.ndarray, "h w 3"]
    """RGB."""
    source: str
    """Where the sample came from, for messages: a file, or a seed."""
    is_left: bool
    joints_2d_px: Float[np.ndarray, "21 2"]
    joints_2d_valid: Bool[np.ndarray, "21"] | None = None
    joints_3d: Float[np.ndarray, "21 3"] | None = None
    """In the camera's frame, not relative to the root."""
    joints_3d_valid: Bool[np.ndarray, "21"] | None = None
    box_px: Float[np.ndarray, "4"] | None = None
    """Where the hand is, x and y of two opposite corners, where its valid 2D joints do not tell it; else None."""
    mask: UInt8[np.ndarray, "h w"] | None = None
    """255 where the hand is, 0 elsewhere, between on its border if the data set knows the share."""
    depth: Float[np.ndarray, "h w"] | None = None
    """Metres; infinite where nothing is."""
    vertices: Float[np.ndarray, "v 3"] | None = None
    global_orient: Float[np.ndarray, "3"] | None = None
    hand_pose: Float[np.ndarray, "45"] | None = None
    """Full axis-angle rotations of the 15 finger joints, the hand model's mean pose contained."""
    betas: Float[np.ndarray, "10"] | None = None
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    """The camera matrix K for the pixel coordinates above."""


class HandDataset(ABC):
    """A set of samples, read or rendered on demand.

    Args of every implementation, beside its own: ``split``, "train" or "val", which the data module fills in. It
    raises ValueError for a split that the data set lacks.
    """

    @property
    def published(self) -> Mapping[str, int]:
        """The number of samples in each split, as published; a split that is missing here can have any number."""
        return {}

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples in an epoch."""

    @abstractmethod
    def sample(self, index: int, epoch: int) -> HandSample:
        """Return sample ``index`` of epoch ``epoch``: a pure function of both, whatever the process that calls it.

        A stored data set ignores the epoch.

        Raises:
            IndexError: If ``index`` is not in [0, len(self)).
            ValueError: If the sample's files are missing or broken; the message names the file and the mend.
        """
