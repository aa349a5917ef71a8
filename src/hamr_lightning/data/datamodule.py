"""The data module: from data sets to batches on every rank and worker, the same ones whatever their number."""

import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from hamr_lightning.data.augmentation import Augmentation
from hamr_lightning.data.base import HandDataset
from hamr_lightning.data.crop import HandCrop
from hamr_lightning.data.loading import CroppedHands, EpochSampler, set_up_worker
from hamr_lightning.errors import UserError
from hamr_lightning.types import HandBatch


class ResumableLoader(DataLoader[HandBatch]):
    """A loader whose sampler is an :class:`EpochSampler`, and that goes on in the epoch that a checkpoint was saved in.

    Lightning saves and restores its state.
    """

    sampler: EpochSampler
    _given = 0
    _resumed: Mapping[str, int] | None = None

    def __iter__(self) -> Iterator[HandBatch]:  # type: ignore[override]
        """Yield the batches of the sampler's epoch that have not been given before the resumption."""
        # Only here, at the first batch, has Lightning told the sampler which epoch it is.
        resumed, self._resumed = self._resumed, None
        self._given = resumed["batches"] if resumed and resumed["epoch"] == self.sampler.epoch else 0
        self.sampler.skipped = self._given * (self.batch_size or 1)
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its batches have been given."""
        return {"epoch": self.sampler.epoch, "batches": self._given}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where a state was saved."""
        self._resumed = state


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
        workers: Worker processes for each of the two loaders, no more than there are processors; 0 loads in the
            training process.
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
        self._batch_size, self._seed = batch_size, seed
        self.workers = min(workers, os.cpu_count() or 1)
        self._train = CroppedHands(train, HandCrop(image_size, margin, augmentation or Augmentation.none()), seed)
        self._val = CroppedHands(val, HandCrop(image_size, margin), seed)

    def train_dataloader(self) -> DataLoader[HandBatch]:
        """Return this rank's loader of training batches.

        Raises:
            UserError: If the data set is too small for one batch on every rank.
        """
        rank, replicas = self._rank_and_replicas()
        largest = len(self._train) // replicas
        if self._batch_size > largest:
            raise UserError(
                f"data.batch_size is {self._batch_size}, but {len(self._train)} training samples on {replicas} "
                f"rank(s) fill no batch of more than {largest}"
            )
        sampler = EpochSampler(len(self._train), self._seed, rank, replicas)
        return ResumableLoader(self._train, sampler=sampler, drop_last=True, **self._loader_arguments())

    def val_dataloader(self) -> DataLoader[HandBatch]:
        """Return this rank's loader of validation batches.

        Raises:
            UserError: If the data set has less than one sample for every rank.
        """
        rank, replicas = self._rank_and_replicas()
        if len(self._val) < replicas:
            raise UserError(f"data.val has {len(self._val)} samples, which is too few for {replicas} rank(s)")
        return DataLoader(self._val, sampler=range(rank, len(self._val), replicas), **self._loader_arguments())

    def _rank_and_replicas(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _loader_arguments(self) -> dict[str, Any]:
        return {
            "batch_size": self._batch_size,
            "num_workers": self.workers,
            "collate_fn": HandBatch.concatenate,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": self.workers > 0,
            "worker_init_fn": set_up_worker,
            "multiprocessing_context": _worker_context() if self.workers else None,
        }


def _worker_context() -> Any:
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([CroppedHands.__module__])  # imported once by the server, and not by every worker
    return context
