"""Albumentations' transforms of pixels, by name."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import UInt8

from hamr_lightning.registry import nearest


def transform(
    image: UInt8[np.ndarray, "h w 3"], named: Sequence[Mapping[str, Mapping[str, Any]]], seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Apply transforms one after the other, a pure function of image and seed.

    Args:
        image: RGB.
        named: Mappings of one key each, a transform's name, to its arguments.
        seed: In [0, 2^32).

    Raises:
        ValueError: If one is unknown, changes more than pixels, refuses its arguments, or gives another kind of image.
    """
    built = _build(json.dumps(list(named)))
    built.set_random_seed(seed)
    changed = built(image=np.ascontiguousarray(image))["image"]
    if changed.shape != image.shape or changed.dtype != np.uint8:
        raise ValueError(
            f"augmentation.transforms must keep images RGB of 8 bits; {', '.join(map(str, built))} give shape "
            f"{changed.shape} of {changed.dtype}"
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
