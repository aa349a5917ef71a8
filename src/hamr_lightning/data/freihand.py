"""FreiHAND (v2; Zimmermann et al., ICCV 2019), as it is published."""

import os
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, UInt8

from hamr_lightning.data.annotation_cache import cached_annotation
from hamr_lightning.data.base import HandDataset, HandSample
from hamr_lightning.data.files import read_json_arrays, read_rgb, resolve_root
from hamr_lightning.data.pinhole import FROM_INDICES, project
from hamr_lightning.hand_model import HandModel
from hamr_lightning.registry import register

Version = Literal["gs", "hom", "sample", "auto"]

_FOLDERS: Final = {"train": "training", "val": "evaluation"}
_VERSIONS: Final[tuple[Version, ...]] = ("gs", "hom", "sample", "auto")
_SHAPES: Final = {"K": (3, 3), "xyz": (21, 3), "verts": (778, 3), "mano": (61,)}
_CROP_MARGIN: Final = 1.6


@register("dataset", "freihand")
class FreihandDataset(HandDataset):
    """Photographs of right hands, 224 x 224 pixels, with joints, vertices and MANO parameters fitted to many views.

    Each of the 32,560 training hands comes with four backgrounds, which share annotation and mask. The masks are cut
    out of photographs, not rendered: they need not end where the mesh does. The first start decodes 1.6 GB of JSON,
    which takes a minute or two and 4 GB of memory.

    The evaluation's joints, vertices and parameters were published later, as ``evaluation_{xyz,verts,mano}.json``;
    where a file of them is missing, what it holds is not annotated. So that predictions do not depend on it, the hand's
    box is the same square in every evaluation picture: a crop with a margin of 1.6 is the whole picture. There are no
    evaluation masks.

    ``vertices``, ``global_orient``, ``hand_pose`` and ``betas`` are MANO's, so they are given if ``hand`` is a MANO
    file; to another hand model they mean nothing. FreiHAND's poses are relative to MANO's mean pose, which is added.

    FreiHAND does not say where a pixel's centre is. Its pictures were cut out by warping and its own tools draw key
    points by pixel index, so it is taken to be at whole numbers.

    Args:
        root: The folder ``FreiHAND_pub_v2``, which holds ``training``, ``evaluation`` and the JSON files. Evaluation
            files of ``FreiHAND_pub_v2_eval`` may lie there too, or its folder be the root of "val".
        split: "train" for ``training``, "val" for ``evaluation``.
        versions: Which backgrounds to train on, None for all four: "gs" is the green screen, "hom", "sample" and "auto"
            are composed.
        hand: The decoder's right hand model, or what :meth:`HandModel.load` takes.

    Raises:
        ValueError: If an argument is not one of these, or the annotation is missing, broken, or not of as many hands
            as there are pictures; the message names the file.
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val"] = "train",
        versions: list[Version] | None = None,
        hand: HandModel | str = "open",
    ) -> None:
        if split not in _FOLDERS:
            raise ValueError(f"FreihandDataset: split must be one of {', '.join(_FOLDERS)}, got {split!r}")
        versions = list(_VERSIONS) if versions is None else versions
        if not versions or not set(versions) <= set(_VERSIONS):
            raise ValueError(f"FreihandDataset: versions must be some of {', '.join(_VERSIONS)}, got {versions!r}")
        self._folder = resolve_root(root) / _FOLDERS[split]
        paths = _find_annotation(self._folder)
        self._annotation = cached_annotation("freihand-1", list(paths.values()), partial(_decode, paths))
        self._hands = len(self._annotation["K"])
        self._backgrounds = [_VERSIONS.index(version) for version in versions] if split == "train" else [0]
        _check_pictures(self._folder / "rgb", self._hands, 1 + max(self._backgrounds))
        self._masks = _find_masks(self._folder / "mask") if split == "train" else None
        self._is_evaluation = split == "val"
        self._pose_mean = _mano_pose_mean(hand)
        self._published = {"train": 32_560 * len(versions), "val": 3_960}

    @property
    def published(self) -> Mapping[str, int]:
        """The number of pictures in each split; see :attr:`HandDataset.published`."""
        return self._published

    def __len__(self) -> int:
        """Return the number of pictures, those of one background after those of another."""
        return len(self._backgrounds) * self._hands

    def sample(self, index: int, epoch: int = 0) -> HandSample:
        """Return the hand in a picture; see :meth:`HandDataset.sample`."""
        if not 0 <= index < len(self):
            raise IndexError(f"FreihandDataset: index {index} is not in [0, {len(self)})")
        background, hand = divmod(index, self._hands)
        path = self._folder / "rgb" / f"{self._backgrounds[background] * self._hands + hand:08d}.jpg"
        image = read_rgb(path)
        entry = {field: np.array(values[hand]) for field, values in self._annotation.items()}
        intrinsics = entry["K"] + FROM_INDICES
        joints = entry.get("xyz")
        return HandSample(
            image=image,
            source=str(path),
            is_left=False,
            joints_2d_px=np.zeros((21, 2)) if joints is None else project(joints, intrinsics),
            joints_2d_valid=np.zeros(21, dtype=bool) if joints is None else None,
            joints_3d=joints,
            box_px=_central_square(image) if self._is_evaluation else None,
            mask=None if self._masks is None else _read_mask(self._masks / f"{hand:08d}.jpg"),
            intrinsics=intrinsics,
            **self._hand_model_annotation(entry),
        )

    def _hand_model_annotation(self, entry: Mapping[str, np.ndarray]) -> dict[str, Float[np.ndarray, "..."]]:
        if self._pose_mean is None:
            return {}
        annotation = {"vertices": entry["verts"]} if "verts" in entry else {}
        if "mano" in entry:
            orient, pose, betas, _ = np.split(entry["mano"], [3, 48, 58])
            annotation |= {"global_orient": orient, "hand_pose": self._pose_mean + pose, "betas": betas}
        return annotation


def _find_annotation(folder: Path) -> dict[str, Path]:
    paths = {field: Path(f"{folder}_{field}.json") for field in _SHAPES}
    if not paths["K"].is_file():
        raise ValueError(f"{paths['K']} is missing; root must name the folder FreiHAND_pub_v2, which holds it")
    if folder.name == _FOLDERS["train"]:
        return paths
    return {field: path for field, path in paths.items() if path.exists()}


def _find_masks(folder: Path) -> Path | None:
    if folder.is_dir():
        return folder
    warnings.warn(f"{folder} is missing: no hand has a mask; unpack it from the data set's archive", stacklevel=3)
    return None


def _mano_pose_mean(hand: HandModel | str) -> Float[np.ndarray, "45"] | None:
    model = HandModel.load(hand) if isinstance(hand, str) else hand
    if model.side != "right":
        raise ValueError(f"FreihandDataset: hand must be a right one, as all of FreiHAND's are, got {model.name}")
    return None if model.name == "open" else model.pose_mean


def _decode(paths: Mapping[str, Path]) -> dict[str, np.ndarray]:
    annotation = {field: read_json_arrays(path, _SHAPES[field]) for field, path in paths.items()}
    for field, arrays in annotation.items():
        if len(arrays) != len(annotation["K"]):
            raise ValueError(
                f"{paths[field]} has {len(arrays)} entries and {paths['K']} {len(annotation['K'])}, where each must "
                "have one for every hand; unpack both again from the data set's archive"
            )
    return annotation


def _check_pictures(folder: Path, hands: int, least_backgrounds: int) -> None:
    """Refuse annotation of another length; a picture that is missing among the others is named when it is read."""
    pictures = _count_pictures(folder) if folder.is_dir() else 0
    most = hands * (len(_VERSIONS) if folder.parent.name == _FOLDERS["train"] else 1)
    if pictures > most or not (folder / f"{least_backgrounds * hands - 1:08d}.jpg").is_file():
        raise ValueError(
            f"{folder} holds {pictures} pictures where the annotation beside it, of {hands} hands, needs "
            f"{least_backgrounds} of each; unpack both again from the data set's archive, or choose other versions"
        )


def _count_pictures(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(entry.name.endswith(".jpg") for entry in entries)


def _read_mask(path: Path) -> UInt8[np.ndarray, "h w"]:
    return np.where(read_rgb(path)[..., 0] >= 128, np.uint8(255), np.uint8(0))


def _central_square(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "4"]:
    centre, half_side = np.array(image.shape[1::-1]) / 2, min(image.shape[:2]) / (2 * _CROP_MARGIN)
    return np.concatenate([centre - half_side, centre + half_side])
