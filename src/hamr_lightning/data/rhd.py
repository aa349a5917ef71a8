"""The Rendered Hand Pose Dataset (RHD v2; Zimmermann and Brox, ICCV 2017), as it is published."""

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np

from hamr_lightning.data.annotation_cache import cached_annotation
from hamr_lightning.data.base import HandDataset, HandSample
from hamr_lightning.data.files import read_grey, read_rgb, resolve_root
from hamr_lightning.registry import register
from hamr_lightning.safe_pickle import dense, loads

_FOLDERS: Final = {"train": "training", "val": "evaluation"}
_BASE_TO_TIP: Final = np.array([0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17])
_ROWS: Final = {"right": _BASE_TO_TIP + 21, "left": _BASE_TO_TIP}
_MASK_VALUES: Final = {"right": (18, 33), "left": (2, 17)}
_PUBLISHED: Final = {"train": 41258, "val": 2728}
_FIELDS: Final = {"uv_vis": (42, 3), "xyz": (42, 3), "K": (3, 3)}


@register("dataset", "rhd")
class RhdDataset(HandDataset):
    """Rendered people of 320 x 320 pixels; of each picture the hand that is more visible.

    That is the one with more pixels in ``mask/``; where that folder is missing there is no mask, which a warning tells,
    and it is the one with more visible key points. All its joints are valid, the hidden ones too: RHD knows them from
    its renderer.

    RHD's key points are continuous pixel coordinates, the centre of the first pixel at 0.5, as here: they are ``xyz``
    projected by ``K``, whose principal point (160, 160) is only so the middle of the picture, and drawn so they lie
    midway between the outlines of the fingers.

    Args:
        root: The folder ``RHD_published_v2``, which holds ``training`` and ``evaluation``.
        split: "train" for ``training``, "val" for ``evaluation``.

    Raises:
        ValueError: If the annotation is missing, broken or asks to run code; the message names the file.
    """

    def __init__(self, root: str | Path, split: Literal["train", "val"] = "train") -> None:
        if split not in _FOLDERS:
            raise ValueError(f"RhdDataset: split must be one of {', '.join(_FOLDERS)}, got {split!r}")
        self._folder = resolve_root(root) / _FOLDERS[split]
        self._path = self._folder / f"anno_{_FOLDERS[split]}.pickle"
        self._annotation = cached_annotation("rhd-1", [self._path], partial(_decode, self._path))
        self._has_masks = (self._folder / "mask").is_dir()
        if not self._has_masks:
            warnings.warn(
                f"{self._folder / 'mask'} is missing: no hand has a mask, and of each picture the hand with more "
                "visible key points is taken; unpack it from the data set's archive",
                stacklevel=2,
            )

    @property
    def published(self) -> Mapping[str, int]:
        """The number of pictures in the whole RHD v2."""
        return _PUBLISHED

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._annotation["ids"])

    def sample(self, index: int, epoch: int = 0) -> HandSample:
        """Return the more visible hand of a picture; see :meth:`HandDataset.sample`."""
        if not 0 <= index < len(self):
            raise IndexError(f"RhdDataset: index {index} is not in [0, {len(self)})")
        number = int(self._annotation["ids"][index])
        name = f"{number:05d}.png"
        image_path = self._folder / "color" / name
        image = read_rgb(image_path)
        parts = read_grey(self._folder / "mask" / name) if self._has_masks else None
        entry = {field: np.array(self._annotation[field][index]) for field in _FIELDS}
        for field, values in entry.items():
            if not np.isfinite(values).all():
                raise ValueError(f"{self._path}: {field} of entry {number} must be finite; mend or remove the entry")

        masks = {} if parts is None else {side: cv2.inRange(parts, *values) for side, values in _MASK_VALUES.items()}
        if masks:
            visibility = {side: cv2.countNonZero(mask) for side, mask in masks.items()}
        else:
            visibility = {side: entry["uv_vis"][rows, 2].sum() for side, rows in _ROWS.items()}
        side = max(visibility, key=lambda key: visibility[key])
        rows = _ROWS[side]
        return HandSample(
            image=image,
            source=str(image_path),
            is_left=side == "left",
            joints_2d_px=entry["uv_vis"][rows, :2],
            joints_3d=entry["xyz"][rows],
            mask=masks.get(side),
            intrinsics=entry["K"],
        )


def _decode(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ValueError(
            f"{path} is missing; root must name the folder RHD_published_v2, which holds "
            "training/{color,mask,anno_training.pickle} and evaluation/{color,mask,anno_evaluation.pickle}"
        )
    try:
        entries = loads(path.read_bytes(), names={})
    except Exception as error:
        raise ValueError(f"{path} cannot be read as RHD's annotation: {error}") from error
    if not (isinstance(entries, dict) and entries and all(isinstance(number, int) for number in entries)):
        raise ValueError(f"{path} is not RHD's annotation, a dict from number to {{{', '.join(_FIELDS)}}}")
    numbers = sorted(entries)
    fields = {
        field: np.stack([_read_field(path, number, entries[number], field) for number in numbers]) for field in _FIELDS
    }
    return {"ids": np.array(numbers), **fields}


def _read_field(path: Path, number: int, entry: Any, field: str) -> np.ndarray:
    try:
        values = dense(entry[field]).astype(np.float32)
    except Exception as error:
        raise ValueError(f"{path}: {field} of entry {number} cannot be read: {error!r}") from error
    if values.shape != _FIELDS[field]:
        raise ValueError(
            f"{path}: {field} of entry {number} must have shape {_FIELDS[field]}, got {values.shape}; "
            "unpack it again from the data set's archive"
        )
    return values
