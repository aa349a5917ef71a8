"""Albumentations' transforms of pixels, by name."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import UInt8

from hamr_lightning.registry import nearest

_PROBE = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)


def check(named: Sequence[Mapping[str, Mapping[str, Any]]]) -> None:
    """Try all transforms on an image, whatever their probability.

    Raises:
        ValueError: As :func:`transform`.
    """
    built = deepcopy(_build(json.dumps(list(named))))
    for one in built:
        one.p = 1.0
    _apply(built, _PROBE)


def transform(
    image: UInt8[np.ndarray, "h w 3"], named: Sequence[Mapping[str, Mapping[str, Any]]], seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Apply transforms one after the other, a pure function of image and seed.

    Args:
        image: RGB.
        named: Mappings of one key each, a transform's name, to its arguments.
        seed: In [0, 2^32).

    Raises:
        ValueError: If one is unknown, changes more than pixels, refuses its arguments, needs more than an image, or
            gives another kind of image.
    """
    built = _build(json.dumps(list(named)))
    built.set_random_seed(seed)
    return _apply(built, np.ascontiguousarray(image))


def _apply(built: Any, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    names = ", ".join(type(one).__name__ for one in built)
    try:
        changed = built(image=image)["image"]
    except Exception as error:
        raise ValueError(f"augmentation.transforms: {names} cannot be applied to an image: {error}") from error
    if changed.shape != image.shape or changed.dtype != np.uint8:
        raise ValueError(
            f"augmentation.transforms must keep images RGB of 8 bits; after {names} it has shape {changed.shape} of "
            f"{changed.dtype}"
        )
    return changed


@lru_cache(maxsize=8)
def _build(named: str) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network for a newer version
    import albumentations

    return albumentations.Compose([_build_one(albumentations, entry) for entry in json.loads(named)])


def _build_one(albumentations: Any, entry: Mapping[str, Mapping[str, Any]]) -> Any:
    if len(entry) != 1:
        raise ValueError(
            f"augmentation.transforms must be a list of one name and its arguments each, got {dict(entry)}"
        )
    ((name, arguments),) = entry.items()
    base = albumentations.ImageOnlyTransform
    known = {
        key: value
        for key, value in vars(albumentations).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base
    }
    if name not in known:
        raise ValueError(
            f"augmentation.transforms: albumentations has no transform of pixels alone named {name!r}; "
            + nearest(name, sorted(known))
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # which is what albumentations has for an unknown argument
            return known[name](**arguments)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"augmentation.transforms: {name} refuses its arguments: {reason}") from error
