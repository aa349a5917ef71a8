"""The Rendered Hand Pose Dataset (RHD v2; Zimmermann and Brox, ICCV 2017), as it is published."""

from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from hamr_lightning.data.base import HandDataset, HandSample
from hamr_lightning.registry import register
from hamr_lightning.safe_pickle import dense, loads

_FOLDERS: Final = {"train": "training", "val": "evaluation"}
_BASE_TO_TIP: Final = np.array([0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17])
_ROWS: Final = {"left": _BASE_TO_TIP, "right": _BASE_TO_TIP + 21}
_MASK_VALUES: Final = {"left": (2, 17), "right": (18, 33)}
_FIELDS: Final = {"uv_vis": (42, 3), "xyz": (42, 3), "K": (3, 3)}


@register("dataset", "rhd")
class RhdDataset(HandDataset):
    """Rendered people of 320 x 320 pixels; of each picture the hand that is more visible.

    That is the one with more pixels in ``mask/``; where that folder is missing there is no mask, and it is the one with
    more visible key points. All its joints are valid, the hidden ones too: RHD knows them from its renderer.

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
        self._folder = Path(root).expanduser() / _FOLDERS[split]
        self._ids, self._annotation = _read_annotation(self._folder / f"anno_{_FOLDERS[split]}.pickle")
        self._has_masks = (self._folder / "mask").is_dir()

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._ids)

    def sample(self, index: int, epoch: int = 0) -> HandSample:
        """Return the more visible hand of a picture; see :meth:`HandDataset.sample`."""
        if not 0 <= index < len(self):
            raise IndexError(f"RhdDataset: index {index} is not in [0, {len(self)})")
        name = f"{self._ids[index]:05d}.png"
        image_path = self._folder / "color" / name
        image = cv2.cvtColor(_read_png(image_path, channels=(3,)), cv2.COLOR_BGR2RGB)
        parts = _read_png(self._folder / "mask" / name, channels=()) if self._has_masks else None
        uv_vis, xyz, intrinsics = (self._annotation[field][index] for field in _FIELDS)

        visibility = {side: uv_vis[rows, 2].sum() for side, rows in _ROWS.items()}
        masks = {} if parts is None else {side: _within(parts, *values) for side, values in _MASK_VALUES.items()}
        if masks:
            visibility = {side: np.count_nonzero(mask) for side, mask in masks.items()}
        side = max(visibility, key=lambda key: visibility[key])
        rows = _ROWS[side]
        return HandSample(
            image=image,
            source=str(image_path),
            is_left=side == "left",
            joints_2d_px=uv_vis[rows, :2],
            joints_3d=xyz[rows],
            mask=masks[side] * np.uint8(255) if masks else None,
            intrinsics=intrinsics,
        )


def _within(parts: UInt8[np.ndarray, "h w"], first: int, last: int) -> Bool[np.ndarray, "h w"]:
    return (parts >= first) & (parts <= last)


def _read_png(path: Path, channels: tuple[int, ...]) -> UInt8[np.ndarray, "h w *c"]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; RHD has such a file for every entry of its annotation")
    content = np.fromfile(path, np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if len(content) else None
    if image is None or image.shape[2:] != channels or image.dtype != np.uint8:
        raise ValueError(f"{path} is not a PNG as RHD has it; unpack it again from the data set's archive")
    return image


def _read_annotation(path: Path) -> tuple[list[int], dict[str, Shaped[np.ndarray, "n r c"]]]:
    if not path.is_file():
        raise ValueError(
            f"{path} is missing; root must name the folder RHD_published_v2, which holds "
            "training/{color,mask,anno_training.pickle} and evaluation/{color,mask,anno_evaluation.pickle}"
        )
    try:
        entries = loads(path.read_bytes(), names={})
    except Exception as error:
        raise ValueError(f"{path} cannot be read as RHD's annotation: {error}") from error
    try:
        ids = sorted(entries)
        annotation = {field: np.stack([np.float32(dense(entries[i][field])) for i in ids]) for field in _FIELDS}
    except Exception as error:
        raise ValueError(f"{path} is not RHD's annotation, a dict from number to {_FIELDS}: {error!r}") from error
    for field, shape in _FIELDS.items():
        if annotation[field].shape[1:] != shape:
            raise ValueError(f"{path}: {field} must have shape {shape}, got {annotation[field].shape[1:]}")
    return ids, annotation
