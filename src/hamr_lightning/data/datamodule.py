"""The data module: from data sets to batches on every rank and worker, the same ones whatever their number."""

import multiprocessing
import sys
from collections.abc import Iterator
from typing import Any

import cv2
import numba
import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from hamr_lightning.data.augmentation import Augmentation
from hamr_lightning.data.base import HandDataset
from hamr_lightning.data.crop import HandCrop
from hamr_lightning.types import HandBatch

_ORDER_STREAM, _CROP_STREAM = (1,), (2,)


class SampleError(ValueError):
    """A sample cannot be read or cropped. Its message is one line, also after the way out of a worker process."""

    def __init__(self, message: str) -> None:
        # A DataLoader raises a worker's error again with the whole traceback for its message.
        traceback, _, own = message.rpartition(f"{type(self).__name__}: ")
        super().__init__(own.strip())
        if traceback:
            self.add_note(traceback)


class CroppedHands(Dataset[HandBatch]):
    """A data set's samples, each cropped to a batch of one.

    The key is (epoch, index), or an index alone for epoch 0; the crop is a pure function of it and of ``seed``.

    Raises:
        SampleError: If the data set or the crop refuses the sample.
    """

    def __init__(self, samples: HandDataset, crop: HandCrop, seed: int) -> None:
        self._samples, self._crop, self._seed = samples, crop, seed

    def __len__(self) -> int:
        """Return the number of samples in an epoch."""
        return len(self._samples)

    def __getitem__(self, key: tuple[int, int] | int) -> HandBatch:
        """Return the batch of one."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        generator = np.random.default_rng(np.random.SeedSequence((self._seed, epoch, index), spawn_key=_CROP_STREAM))
        try:
            return self._crop(self._samples.sample(index, epoch), generator)
        except (ValueError, OSError) as error:
            raise SampleError(f"sample {index} of epoch {epoch}: {error}") from error


class EpochSampler(Sampler[tuple[int, int]]):
    """Shuffles an epoch and deals it out to the ranks: keys (epoch, index), no index twice.

    Every rank gets equally many; up to ``replicas - 1`` of an epoch's last are left out. Lightning calls
    :meth:`set_epoch`; as the epoch travels in the keys, workers hold no state.
    """

    def __init__(self, length: int, seed: int = 0, rank: int = 0, replicas: int = 1) -> None:
        self._length, self._seed, self._rank, self._replicas = length, seed, rank, replicas
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is of."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of keys for this rank."""
        return self._length // self._replicas

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield this rank's keys."""
        seeds = np.random.SeedSequence((self._seed, self._epoch), spawn_key=_ORDER_STREAM)
        order = np.random.default_rng(seeds).permutation(self._length)
        for index in order[self._rank : len(self) * self._replicas : self._replicas]:
            yield self._epoch, int(index)


class HandDataModule(pl.LightningDataModule):
    """Feeds cropped and augmented hands to a trainer.

    Training batches are shuffled anew each epoch and all full; the rest of an epoch that fills no batch on every rank
    is left out. Validation takes every sample exactly once, each rank its share, without augmentation. Ranks are dealt
    with here: build the trainer with ``use_distributed_sampler=False``.

    Worker processes start from a fork server (elsewhere than on Linux anew): forking the training process itself would
    copy locks that its threads (CUDA's, numba's, OpenMP's) hold. A script that trains with workers therefore needs its
    ``if __name__ == "__main__"``, and a data set of one's own must be importable.

    Args:
        train: Data to train on, not empty.
        val: Data to validate on, not empty.
        batch_size: Samples per batch and rank, at least 1.
        workers: Worker processes for each of the two loaders; 0 loads in the training process.
        image_size: Side of the crops in pixels.
        margin: Side of the crop's square as a multiple of the joints' extent; see :class:`HandCrop`.
        augmentation: How training crops vary; None, not at all.
        seed: Seed, at least 0, of order and augmentation.

    Raises:
        ValueError: If an argument is out of bounds; the message names it and the bound.
    """

    def __init__(
        self,
        train: HandDataset,
        val: HandDataset,
        batch_size: int = 32,
        workers: int = 0,
        image_size: int = 256,
        margin: float = HandCrop.margin,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, lowest in (("batch_size", batch_size, 1), ("workers", workers, 0), ("seed", seed, 0)):
            if value < lowest:
                raise ValueError(f"data.{name} must be at least {lowest}, got {value}")
        self._batch_size, self._workers, self._seed = batch_size, workers, seed
        self._train = CroppedHands(train, HandCrop(image_size, margin, augmentation or Augmentation.none()), seed)
        self._val = CroppedHands(val, HandCrop(image_size, margin), seed)

    def train_dataloader(self) -> DataLoader[HandBatch]:
        """Return this rank's loader of training batches.

        Raises:
            ValueError: If the data set is too small for one batch on every rank.
        """
        rank, replicas = self._rank_and_replicas()
        largest = len(self._train) // replicas
        if self._batch_size > largest:
            raise ValueError(
                f"data.batch_size is {self._batch_size}, but {len(self._train)} training samples on {replicas} "
                f"rank(s) fill no batch of more than {largest}"
            )
        sampler = EpochSampler(len(self._train), self._seed, rank, replicas)
        return self._loader(self._train, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[HandBatch]:
        """Return this rank's loader of validation batches.

        Raises:
            ValueError: If the data set has less than one sample for every rank.
        """
        rank, replicas = self._rank_and_replicas()
        if len(self._val) < replicas:
            raise ValueError(f"data.val has {len(self._val)} samples, which is too few for {replicas} rank(s)")
        return self._loader(self._val, sampler=range(rank, len(self._val), replicas))

    def _rank_and_replicas(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _loader(self, samples: CroppedHands, **arguments: Any) -> DataLoader[HandBatch]:
        return DataLoader(
            samples,
            batch_size=self._batch_size,
            num_workers=self._workers,
            collate_fn=HandBatch.concatenate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self._workers > 0,
            worker_init_fn=_use_one_thread,
            multiprocessing_context=_worker_context() if self._workers else None,
            **arguments,
        )


def _worker_context() -> Any:
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imported once by the server, and not by every worker
    return context


def _use_one_thread(worker: int) -> None:
    cv2.setNumThreads(1)
    numba.set_num_threads(1)
