"""What worker processes run: samples cropped to batches of one, by keys that hold all there is to know.

Apart from the data module so that workers, which import this, need not import Lightning.
"""

import signal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import TypeVar

import cv2
import numba
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from hamr_lightning.data.base import HandDataset
from hamr_lightning.data.batching import CroppedHand, join
from hamr_lightning.data.crop import HandCrop
from hamr_lightning.data.device_colours import UncolouredBatch, join_uncoloured
from hamr_lightning.errors import UserError
from hamr_lightning.types import HandBatch

_ORDER_STREAM, _CROP_STREAM = (1,), (2,)
_NOTHING = HandBatch(torch.empty(0, 3, 0, 0))
_Batch = TypeVar("_Batch", HandBatch, UncolouredBatch | HandBatch)


class SampleError(UserError):
    """More samples cannot be read or cropped than may be skipped."""


class Refusal(str):
    """Why a sample cannot be read or cropped."""


class CroppedHands(Dataset[HandBatch]):
    """A data set's samples, each cropped to a batch of one.

    The key is (epoch, index), or an index alone for epoch 0; the crop is a pure function of it and of ``seed``. A
    sample that the data set or the crop refuses gives a batch of none, whose ``skipped`` says why.
    """

    def __init__(self, samples: HandDataset, crop: HandCrop, seed: int) -> None:
        self._samples, self._crop, self._seed = samples, crop, seed

    def __len__(self) -> int:
        """Return the number of samples in an epoch."""
        return len(self._samples)

    def __getitem__(self, key: tuple[int, int] | int) -> HandBatch:
        """Return the batch of one, or of none."""
        return collate([self._cut(key)])

    def __getitems__(self, keys: Sequence[tuple[int, int] | int]) -> list[CroppedHand | Refusal]:
        """Return what a loader's ``collate_fn`` makes a batch of."""
        return [self._cut(key) for key in keys]

    def _cut(self, key: tuple[int, int] | int) -> CroppedHand | Refusal:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        generator = np.random.default_rng(np.random.SeedSequence((self._seed, epoch, index), spawn_key=_CROP_STREAM))
        try:
            return self._crop.cut(self._samples.sample(index, epoch), generator)
        except (ValueError, OSError) as error:
            return Refusal(str(error))


def collate(crops: Sequence[CroppedHand | Refusal]) -> HandBatch:
    """Join the crops that there are."""
    present = _present(crops)
    return replace(join(present) if present else _NOTHING, skipped=_refusals(crops))


def collate_full(crops: Sequence[CroppedHand | Refusal]) -> HandBatch:
    """Join to as many samples as keys; what is missing is filled up with others of the same batch.

    Batch norm and the ranks' equal steps need full batches.
    """
    present = _filled_up(crops)
    return replace(join(present) if present else _NOTHING, skipped=_refusals(crops))


def collate_uncoloured(crops: Sequence[CroppedHand | Refusal]) -> UncolouredBatch | HandBatch:
    """Join as :func:`collate_full`, leaving the colours to the device; without any sample there are none."""
    present = _filled_up(crops)
    if not present:
        return replace(_NOTHING, skipped=_refusals(crops))
    batch = join_uncoloured(present)
    return replace(batch, annotation=replace(batch.annotation, skipped=_refusals(crops)))


def _present(crops: Sequence[CroppedHand | Refusal]) -> list[CroppedHand]:
    return [crop for crop in crops if isinstance(crop, CroppedHand)]


def _filled_up(crops: Sequence[CroppedHand | Refusal]) -> list[CroppedHand]:
    return list(islice(cycle(_present(crops)), len(crops)))


def _refusals(crops: Sequence[CroppedHand | Refusal]) -> tuple[str, ...]:
    return tuple(str(crop) for crop in crops if isinstance(crop, Refusal))


class Skipped:
    """Counts the samples that could not be read, and says so.

    Args:
        most: How many different ones may be skipped.

    Attributes:
        reasons: What was wrong with each.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.reasons: list[str] = []

    def watch(self, batches: Iterable[_Batch]) -> Iterator[_Batch]:
        """Yield the batches as they are, also those of no sample.

        Raises:
            SampleError: If more samples are skipped than may be.
        """
        for batch in batches:
            for reason in dict.fromkeys(batch.skipped):
                if reason not in self.reasons:
                    self._add(reason)
            yield batch

    def _add(self, reason: str) -> None:
        self.reasons.append(reason)
        if len(self.reasons) > self._most:
            raise SampleError(
                f"{len(self.reasons)} sample(s) cannot be read, more than data.max_skipped, {self._most}: "
                + "; ".join(self.reasons)
            )
        warnings.warn(f"skipped, {len(self.reasons)} of at most {self._most}: {reason}", stacklevel=2)


class EpochSampler(Sampler[tuple[int, int]]):
    """Shuffles an epoch and deals it out to the ranks: keys (epoch, index), no index twice.

    Every rank gets equally many; up to ``replicas - 1`` of an epoch's last are left out. Lightning calls
    :meth:`set_epoch`; as the epoch travels in the keys, workers hold no state.

    Attributes:
        epoch: The epoch that the next iteration is of.
        start: How many keys the next iteration leaves out at its beginning.
    """

    def __init__(self, length: int, seed: int = 0, rank: int = 0, replicas: int = 1) -> None:
        self._length, self._seed, self._rank, self._replicas = length, seed, rank, replicas
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is of."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of keys for this rank."""
        return self._length // self._replicas

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield this rank's keys."""
        seeds = np.random.SeedSequence((self._seed, self.epoch), spawn_key=_ORDER_STREAM)
        order = np.random.default_rng(seeds).permutation(self._length)
        for index in order[self._rank : len(self) * self._replicas : self._replicas][self.start :]:
            yield self.epoch, int(index)


def set_up_worker(worker: int) -> None:
    """Keep a worker process from starting threads of its own, and from ending before the trainer says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of the terminal
    cv2.setNumThreads(1)
    numba.set_num_threads(1)
