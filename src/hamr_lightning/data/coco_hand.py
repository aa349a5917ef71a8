"""Any set of images whose hands lie in a JSON file in COCO's manner, as MMPose and COCO-WholeBody keep them."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float

from hamr_lightning.data.annotation_cache import cached_annotation
from hamr_lightning.data.base import HandDataset, HandSample
from hamr_lightning.data.files import read_json, read_photograph, resolve_root
from hamr_lightning.data.pinhole import camera_matrix
from hamr_lightning.registry import register

_SPLITS: Final = ("train", "val")
_LARGEST: Final = 1e6
_METRES: Final = 0.001
_NAN: Final = float("nan")


@register("dataset", "coco_hand")
class CocoHandDataset(HandDataset):
    """Hands of 21 key points in a COCO-style JSON file, in 2D and, where given, in 3D; a sample for each hand.

    The file is an object with the lists ``images`` and ``annotations``; further keys are ignored everywhere. An image::

        {"id": 7, "file_name": "camera_1/7.jpg", "width": 640, "height": 480,
         "cam_param": {"focal": [fx, fy], "princpt": [cx, cy]}}

    ``file_name`` is relative to the folder of images and must not lead out of it. ``width`` and ``height`` may be
    missing; where they are there, the picture must have that size as it is stored, without regard to an Exif
    orientation. ``cam_param`` may be missing. An annotation, one for each hand::

        {"id": 12, "image_id": 7, "keypoints": [x, y, v, ...], "bbox": [x, y, width, height],
         "hand_type": "right", "joint_cam": [[x, y, z], ...], "joint_valid": [1, ...]}

    ``keypoints`` are 63 numbers, or 21 lists of three, in the library's order: wrist, then thumb, index, middle, ring
    and pinky, each base to tip, in pixels. A key point with v = 0 is not annotated, with any other v it is. ``bbox``
    may be missing; it tells where the hand is only if some key points are not annotated. ``hand_type`` is "left" or
    "right", if missing "right". ``joint_cam`` may be missing: the joints in the camera's frame (x right, y down, z
    forward) in millimetres, in the same order; a joint whose ``joint_valid`` is 0 is not annotated in 3D.

    An annotation may also hold the two hands of a person, as COCO-WholeBody has it: ``lefthand_kpts``,
    ``lefthand_box`` and ``lefthand_valid``, and so for ``righthand``; its ``keypoints``, the body's, are then ignored.
    Annotations with ``iscrowd`` = 1 and hands without any annotated key point are left out.

    These are the files that MMPose offers for OneHand10K, FreiHAND and Panoptic HandDB, and COCO-WholeBody's own. Its
    file for RHD has each finger from tip to base, which nothing in it tells: use ``rhd``.

    Args:
        root: The folder that the other paths are relative to.
        split: "train" or "val".
        train_annotation: JSON file of the split "train".
        val_annotation: JSON file of the split "val".
        train_images: Folder of images of the split "train".
        val_images: Folder of images of the split "val".
        pixel_offset: What is added to key points and principal points to make the centre of the first pixel 0.5: 0.5
            where it is 0 in the file, as in COCO's, whose key points are indices of pixels; 0 where it is 0.5.

    Raises:
        ValueError: If the annotation is missing or wrong; the message names the file and the annotation.
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val"] = "train",
        train_annotation: str | None = None,
        val_annotation: str | None = None,
        train_images: str = ".",
        val_images: str = ".",
        pixel_offset: float = 0.5,
    ) -> None:
        if split not in _SPLITS:
            raise ValueError(f"CocoHandDataset: split must be one of {', '.join(_SPLITS)}, got {split!r}")
        annotation, images = (train_annotation, train_images) if split == "train" else (val_annotation, val_images)
        if annotation is None:
            raise ValueError(f"CocoHandDataset: {split}_annotation must name the JSON file of the split {split!r}")
        folder = resolve_root(root)
        self._images = folder / images
        self._path = folder / annotation
        self._offset = pixel_offset
        self._hands = cached_annotation("coco_hand-1", [self._path], partial(_decode, self._path))

    def __len__(self) -> int:
        """Return the number of hands."""
        return len(self._hands["keypoints"])

    def sample(self, index: int, epoch: int = 0) -> HandSample:
        """Return a hand; see :meth:`HandDataset.sample`."""
        if not 0 <= index < len(self):
            raise IndexError(f"CocoHandDataset: index {index} is not in [0, {len(self)})")
        hand = {name: np.array(values[index]) for name, values in self._hands.items()}
        source = f"{self._images / str(hand['file_name'])}, annotation {hand['id']} of {self._path.name}"
        try:
            image = read_photograph(self._images / str(hand["file_name"]))
        except ValueError as error:
            raise ValueError(f"annotation {hand['id']} of {self._path}: {error}") from error
        size = (image.shape[1], image.shape[0])
        if any(declared not in (0, actual) for declared, actual in zip(hand["size"], size, strict=True)):
            raise ValueError(
                f"{source}: the picture is {size[0]} x {size[1]} pixels, but the annotation was made on one of "
                f"{hand['size'][0]} x {hand['size'][1]}; give the picture that was annotated"
            )
        valid = hand["keypoints"][:, 2] != 0
        has_3d = hand["joint_valid"].any()
        camera = hand["camera"] + np.array([0, 0, self._offset, self._offset])
        return HandSample(
            image=image,
            source=source,
            is_left=bool(hand["is_left"]),
            joints_2d_px=np.where(valid[:, None], hand["keypoints"][:, :2] + np.float32(self._offset), 0),
            joints_2d_valid=valid,
            joints_3d=hand["joint_cam"] if has_3d else None,
            joints_3d_valid=hand["joint_valid"] if has_3d else None,
            box_px=None if valid.all() or np.isnan(hand["box"]).any() else hand["box"],
            intrinsics=None if np.isnan(camera).any() else camera_matrix(*camera),
        )


def _decode(path: Path) -> Mapping[str, np.ndarray]:
    content = read_json(path)
    try:
        images = _index_images(_list(content, "images"))
        annotations = _list(content, "annotations")
    except _WrongError as error:
        raise ValueError(f"{path}: {error}") from error
    hands: list[dict[str, Any]] = []
    for place, annotation in enumerate(annotations):
        named = annotation.get("id", f"at place {place}") if isinstance(annotation, dict) else f"at place {place}"
        try:
            hands += [{"id": str(named), **hand} for hand in _read(annotation, images)]
        except _WrongError as error:
            raise ValueError(f"{path}: annotation {named}: {error}") from error
    if not hands:
        raise ValueError(f"{path}: no annotation has a hand with a key point; give a file that has")
    return {field: np.stack([hand[field] for hand in hands]) for field in hands[0]}


class _WrongError(Exception):
    """What is wrong with an object of the file."""


def _index_images(images: list[Any]) -> dict[int | str, Any]:
    indexed: dict[int | str, Any] = {}
    for image in images:
        image_id = _get(image, "id")
        if not isinstance(image_id, int | str):
            raise _WrongError(f"an image's id must be a number or a text, got {image_id!r}")
        if image_id in indexed:
            raise _WrongError(f"two images have the id {image_id!r}")
        indexed[image_id] = image
    return indexed


def _read(annotation: Any, images: Mapping[int | str, Any]) -> Iterator[dict[str, Any]]:
    image_id = _get(annotation, "image_id")
    image = images.get(image_id) if isinstance(image_id, int | str) else None
    if image is None:
        raise _WrongError(f"image_id {image_id!r} is not in images")
    if annotation.get("iscrowd"):
        return
    for hand in _hands_of(annotation):
        keypoints = _numbers(hand, "keypoints", (21, 3))
        if keypoints[:, 2].any():
            yield {**_read_image(image), **_read_hand(hand), "keypoints": keypoints}


def _hands_of(annotation: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield an annotation, or the two hands of a person as such ones."""
    if "lefthand_kpts" not in annotation:
        yield annotation
        return
    for side in ("left", "right"):
        if _get(annotation, f"{side}hand_valid"):
            box = annotation.get(f"{side}hand_box")
            yield {"keypoints": _get(annotation, f"{side}hand_kpts"), "bbox": box, "hand_type": side}


def _read_hand(hand: Mapping[str, Any]) -> dict[str, Any]:
    side = hand.get("hand_type", "right")
    if side not in ("left", "right"):
        raise _WrongError(f'hand_type must be "left" or "right", got {side!r}; annotate each hand by itself')
    x, y, width, height = _optional_numbers(hand, "bbox", (4,))
    joints = _optional_numbers(hand, "joint_cam", (21, 3))
    valid = np.isfinite(joints).all(axis=1)
    if hand.get("joint_valid") is not None:
        valid &= _numbers(hand, "joint_valid", (21,)) != 0
    return {
        "is_left": np.array(side == "left"),
        "box": np.array([x, y, x + width, y + height]),
        "joint_cam": np.where(valid[:, None], joints * np.float32(_METRES), 0),
        "joint_valid": valid,
    }


def _read_image(image: Mapping[str, Any]) -> dict[str, Any]:
    name = _get(image, "file_name")
    if not isinstance(name, str) or any(_leads_out(path) for path in (PurePosixPath(name), PureWindowsPath(name))):
        raise _WrongError(f"file_name must be a path inside the folder of images, got {name!r}")
    camera = image.get("cam_param") or {"focal": [_NAN] * 2, "princpt": [_NAN] * 2}
    size = [0 if image.get(side) is None else _numbers(image, side, ()) for side in ("width", "height")]
    return {
        "file_name": np.array(name),
        "size": np.array(size, np.int32),
        "camera": np.concatenate([_numbers(camera, key, (2,)) for key in ("focal", "princpt")]),
    }


def _leads_out(path: PurePosixPath | PureWindowsPath) -> bool:
    return bool(path.anchor) or ".." in path.parts


def _list(content: Any, key: str) -> list[Any]:
    entries = _get(content, key)
    if not isinstance(entries, list):
        raise _WrongError(f"{key} must be a list, got {type(entries).__name__}")
    return entries


def _get(holder: Any, key: str) -> Any:
    if not isinstance(holder, dict) or key not in holder:
        raise _WrongError(f"{key} is missing")
    return holder[key]


def _optional_numbers(holder: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    return np.full(shape, _NAN, np.float32) if holder.get(key) is None else _numbers(holder, key, shape)


def _numbers(holder: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    value = _get(holder, key)
    try:
        numbers = np.array(value)
    except ValueError:  # lists of different lengths
        numbers = np.array(None)
    if numbers.dtype.kind not in "iufb" or numbers.size != np.prod(shape, dtype=int):
        raise _WrongError(f"{key} must be {_described(shape)}, got {str(value)[:60]}")
    if np.abs(numbers.astype(np.float64)).max() > _LARGEST:
        raise _WrongError(f"{key} must be numbers in [-{_LARGEST:.0e}, {_LARGEST:.0e}], got {str(value)[:60]}")
    return numbers.astype(np.float32).reshape(shape)


def _described(shape: tuple[int, ...]) -> str:
    return f"{np.prod(shape, dtype=int)} numbers" if shape else "a number"
