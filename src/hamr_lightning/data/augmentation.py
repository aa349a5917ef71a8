"""Random changes of a crop's geometry and colours (paper, section 4.1)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from hamr_lightning.data.colours import Colours

_LEAST_FACTORS = {"scale": 0.1, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
_GREATEST_SPREADS = {"rotation": 180.0, "hue": 0.5, "noise": 1.0}


@dataclass(frozen=True)
class Augmentation:
    """How far a training crop may stray from the plain one; the defaults are the paper's.

    Pairs are the least and the greatest of a factor drawn uniformly, 1 being no change.

    Raises:
        ValueError: If a value is out of its bounds, or a transform is unknown or refuses its arguments; the message
            names the field and the bound.
    """

    scale: tuple[float, float] = (0.9, 1.2)
    """Factor on the hand's size in the crop, at least 0.1."""
    rotation: float = 60.0
    """Greatest angle in degrees, either way; at most 180."""
    brightness: tuple[float, float] = (0.2, 1.8)
    contrast: tuple[float, float] = (0.3, 1.7)
    saturation: tuple[float, float] = (0.4, 1.6)
    hue: float = 0.1
    """Greatest shift, either way, as a share of the colour circle; at most 0.5. The paper's "0.2 - 1.8" is neither a
    shift nor a factor with a meaning; a tenth keeps skin between pink and yellowish green."""
    noise: float = 0.01
    """Standard deviation of Gaussian noise, the image being in [0, 1]. The paper's N(0, 0.01) is read so, and not as a
    variance, because the authors' released code takes as sigma what their paper calls a variance (that of the
    heat-maps), and because a deviation of 0.1 would drown a hand at brightness 0.2."""
    transforms: tuple[dict[str, dict[str, Any]], ...] = ()
    """Transforms of albumentations that change pixels only, one after the other and before the colours: mappings of a
    name to its arguments, such as ``{"MotionBlur": {"p": 0.3}}``."""

    def __post_init__(self) -> None:
        for name, least in _LEAST_FACTORS.items():
            low, high = getattr(self, name)
            if not least <= low <= high < math.inf:
                raise ValueError(
                    f"augmentation.{name} must be two factors, the lower first and at least {least}, got "
                    f"[{low}, {high}]; [1, 1] changes nothing"
                )
        for name, greatest in _GREATEST_SPREADS.items():
            if not 0 <= getattr(self, name) <= greatest:
                raise ValueError(
                    f"augmentation.{name} must lie between 0, which changes nothing, and {greatest}, got "
                    f"{getattr(self, name)}"
                )

        if self.transforms:
            from hamr_lightning.data.transforms import check

            check(self.transforms)

    @classmethod
    def none(cls) -> "Augmentation":
        """Return the augmentation that changes nothing."""
        return cls((1.0, 1.0), 0.0, (1.0, 1.0), (1.0, 1.0), (1.0, 1.0), 0.0, 0.0)

    def draw_geometry(self, generator: np.random.Generator) -> tuple[float, float]:
        """Draw a scale and a rotation in radians (x towards y: clockwise as one sees the image)."""
        return generator.uniform(*self.scale), math.radians(generator.uniform(-self.rotation, self.rotation))

    def transform(
        self, image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Return an RGB image as the transforms change it."""
        from hamr_lightning.data.transforms import transform

        return transform(image, self.transforms, int(generator.integers(2**32)))

    def draw_colours(self, generator: np.random.Generator) -> Colours:
        """Draw the change of a crop's colours, and the seed of its noise."""
        return Colours(
            generator.uniform(*self.brightness),
            generator.uniform(*self.contrast),
            generator.uniform(*self.saturation),
            generator.uniform(-self.hue, self.hue),
            self.noise,
            int(generator.integers(2**64, dtype=np.uint64)),
        )
