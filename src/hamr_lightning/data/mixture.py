"""Several data sets in one training, in stated shares."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

import numpy as np
from jaxtyping import Int64

from hamr_lightning.data.base import HandDataset, HandSample

_PASS_STREAM: Final = (3,)


class Mixture(HandDataset):
    """Data sets end to end, each as often in an epoch as its weight says.

    With weight 1, an epoch has every sample of a set once, with 2 twice, with 0.5 half of them. A set is gone through
    in passes, each in an order of its own, and an epoch goes on where the one before ended: no sample comes again
    before all others have come. A sample's own epoch, which rendered data vary with, is the number of its pass.

    Args:
        datasets: The sets, at least one.
        weights: A weight for each, above 0 and large enough for one sample.
        seed: Seed of the orders, at least 0.

    Raises:
        ValueError: If a weight is out of bounds.
    """

    def __init__(self, datasets: Sequence[HandDataset], weights: Sequence[float], seed: int = 0) -> None:
        self._datasets, self._seed = list(datasets), seed
        self._counts = [
            _count(dataset, weight, place)
            for place, (dataset, weight) in enumerate(zip(datasets, weights, strict=True))
        ]
        self._ends = list(accumulate(self._counts))

    def __len__(self) -> int:
        """Return the number of samples in an epoch."""
        return self._ends[-1]

    def sample(self, index: int, epoch: int) -> HandSample:
        """Return a sample of one of the sets; see :meth:`HandDataset.sample`."""
        if not 0 <= index < len(self):
            raise IndexError(f"Mixture: index {index} is not in [0, {len(self)})")
        place = int(np.searchsorted(self._ends, index, side="right"))
        dataset, count = self._datasets[place], self._counts[place]
        turn, position = divmod(epoch * count + index - (self._ends[place] - count), len(dataset))
        return dataset.sample(int(_order(self._seed, place, turn, len(dataset))[position]), turn)


def _count(dataset: HandDataset, weight: float, place: int) -> int:
    count = round(weight * len(dataset)) if 0 < weight < float("inf") else 0
    if count < 1:
        raise ValueError(
            f"data.train.{place}.weight must be a number above 0 that is worth one sample of {len(dataset)}, "
            f"got {weight}"
        )
    return count


@lru_cache(maxsize=16)
def _order(seed: int, place: int, turn: int, length: int) -> Int64[np.ndarray, "n"]:
    seeds = np.random.SeedSequence((seed, place, turn), spawn_key=_PASS_STREAM)
    return np.random.default_rng(seeds).permutation(length)
