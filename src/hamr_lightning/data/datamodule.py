"""The data module: from data sets to batches on every rank and worker, the same ones whatever their number."""

import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from hamr_lightning.data.augmentation import Augmentation
from hamr_lightning.data.base import HandDataset
from hamr_lightning.data.crop import HandCrop
from hamr_lightning.data.device_colours import UncolouredBatch, colour, require_kornia
from hamr_lightning.data.loading import (
    CroppedHands,
    EpochSampler,
    SampleError,
    Skipped,
    collate,
    collate_full,
    collate_uncoloured,
    set_up_worker,
)
from hamr_lightning.errors import UserError
from hamr_lightning.types import HandBatch


class TrainLoader(DataLoader[HandBatch]):
    """A loader whose sampler is an :class:`EpochSampler`, and that goes on in the epoch that a checkpoint was saved in.

    Lightning saves and restores its state.
    """

    sampler: EpochSampler
    _given = 0
    _resumed: Mapping[str, int] | None = None

    def __init__(self, skipped: Skipped, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.skipped = skipped

    def __iter__(self) -> Iterator[HandBatch]:  # type: ignore[override]
        """Yield the batches of the sampler's epoch that have not been given before the resumption.

        Raises:
            SampleError: If more samples are skipped than may be, or all of a batch: ranks would wait for each other.
        """
        # Only here, at the first batch, has Lightning told the sampler which epoch it is.
        resumed, self._resumed = self._resumed, None
        self._given = resumed["batches"] if resumed and resumed["epoch"] == self._epoch else 0
        self.sampler.start = self._given * (self.batch_size or 1)
        for batch in self.skipped.watch(super().__iter__()):
            if not len(batch):
                raise SampleError(f"no sample of a training batch can be read: {'; '.join(batch.skipped)}")
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its batches have been given."""
        return {"epoch": self._epoch, "batches": self._given}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where a state was saved."""
        self._resumed = state

    @property
    def _epoch(self) -> int:
        return getattr(self.sampler, "epoch", 0)  # Lightning's overfit_batches puts a sampler without epochs here


class ValLoader(DataLoader[HandBatch]):
    """A loader that leaves out what cannot be read."""

    def __init__(self, skipped: Skipped, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.skipped = skipped

    def __iter__(self) -> Iterator[HandBatch]:  # type: ignore[override]
        """Yield the batches that have a sample, and with them what was wrong with those beside that have none.

        Raises:
            SampleError: If more samples are skipped than may be.
        """
        held: HandBatch | None = None
        for batch in self.skipped.watch(super().__iter__()):
            if held is None:
                held = batch
            elif len(held) and len(batch):
                yield held
                held = batch
            else:
                held = replace(held if len(held) else batch, skipped=held.skipped + batch.skipped)
        if held is not None and len(held):
            yield held


class HandDataModule(pl.LightningDataModule):
    """Feeds cropped and augmented hands to a trainer.

    Training batches are shuffled anew each epoch and all full; the rest of an epoch that fills no batch on every rank
    is left out. Validation takes every sample exactly once, each rank its share, without augmentation. Ranks are dealt
    with here: build the trainer with ``use_distributed_sampler=False``.

    Worker processes start from a fork server (elsewhere than on Linux anew): forking the training process itself would
    copy locks that its threads (CUDA's, numba's, OpenMP's) hold. A script that trains with workers therefore needs its
    ``if __name__ == "__main__"``, and a data set of one's own must be importable.

    Args:
        train: Data to train on, not empty; for several sets see :class:`~hamr_lightning.data.mixture.Mixture`. None
            where there is nothing but validation.
        val: Data to validate on, not empty; or sets by name.
        batch_size: Samples per batch and rank, at least 1.
        workers: Worker processes for each of the loaders, no more than there are processors; 0 loads in the training
            process.
        image_size: Side of the crops in pixels.
        margin: Side of the crop's square as a multiple of the joints' extent; see :class:`HandCrop`.
        augmentation: How training crops vary; None, not at all.
        augment: Where their colours change and their noise is added: "cpu", in the workers; or "gpu", on the trainer's
            device, a batch at a time, by kornia. It is the same change, and noise of the same distribution; the
            training loader itself then gives :class:`~hamr_lightning.data.device_colours.UncolouredBatch`.
        seed: Seed, at least 0, of order and augmentation.
        max_skipped: How many samples that cannot be read or cropped are left out, with a warning each that names the
            file; one more ends the run. A training batch is filled up with others of its samples.

    Raises:
        ValueError: If an argument is out of bounds, or kornia is needed and missing; the message names it and the
            bound.
    """

    def __init__(
        self,
        train: HandDataset | None,
        val: HandDataset | Mapping[str, HandDataset],
        batch_size: int = 32,
        workers: int = 0,
        image_size: int = 256,
        margin: float = HandCrop.margin,
        augmentation: Augmentation | None = None,
        augment: Literal["cpu", "gpu"] = "cpu",
        seed: int = 0,
        max_skipped: int = 10,
    ) -> None:
        super().__init__()
        bounds = (("batch_size", batch_size, 1), ("workers", workers, 0), ("seed", seed, 0))
        for name, value, lowest in (*bounds, ("max_skipped", max_skipped, 0)):
            if value < lowest:
                raise ValueError(f"data.{name} must be at least {lowest}, got {value}")
        if augment not in ("cpu", "gpu"):
            raise ValueError(f"data.augment must be cpu or gpu, got {augment!r}")
        self._colours_on_device = augment == "gpu" and train is not None and augmentation is not None
        if self._colours_on_device:
            require_kornia()
        self._batch_size, self._seed = batch_size, seed
        self.workers = min(workers, os.cpu_count() or 1)
        crop = HandCrop(image_size, margin)
        varied = HandCrop(image_size, margin, augmentation or Augmentation.none())
        self._train = None if train is None else CroppedHands(train, varied, seed)
        sets = val if isinstance(val, Mapping) else {"val": val}
        self._val = {name: CroppedHands(dataset, crop, seed) for name, dataset in sets.items()}
        self._skipped = Skipped(max_skipped)

    @property
    def val_names(self) -> Sequence[str]:
        """The names of the validation sets; "val" for one that was given without."""
        return tuple(self._val)

    @property
    def skipped(self) -> Sequence[str]:
        """What was wrong with each sample that could not be read so far."""
        return tuple(self._skipped.reasons)

    def train_dataloader(self) -> DataLoader[HandBatch]:
        """Return this rank's loader of training batches.

        Raises:
            UserError: If the data set is too small for one batch on every rank, or there is none.
        """
        if self._train is None:
            raise UserError("there is no data to train on in this data module")
        rank, replicas = self._rank_and_replicas()
        largest = len(self._train) // replicas
        if self._batch_size > largest:
            raise UserError(
                f"data.batch_size is {self._batch_size}, but {len(self._train)} training samples on {replicas} "
                f"rank(s) fill no batch of more than {largest}"
            )
        sampler = EpochSampler(len(self._train), self._seed, rank, replicas)
        join = collate_uncoloured if self._colours_on_device else collate_full
        return TrainLoader(
            dataset=self._train, sampler=sampler, drop_last=True, collate_fn=join, **self._loader_arguments()
        )

    def val_dataloaders(self) -> dict[str, DataLoader[HandBatch]]:
        """Return this rank's loader of each validation set, by its name.

        Raises:
            UserError: If a data set has less than one sample for every rank.
        """
        rank, replicas = self._rank_and_replicas()
        for name, dataset in self._val.items():
            if len(dataset) < replicas:
                raise UserError(
                    f"the validation set {name} has {len(dataset)} samples, which is too few for {replicas} rank(s)"
                )
        arguments = {"collate_fn": collate, **self._loader_arguments()}
        return {
            name: ValLoader(dataset=dataset, sampler=range(rank, len(dataset), replicas), **arguments)
            for name, dataset in self._val.items()
        }

    def val_dataloader(self) -> DataLoader[HandBatch] | dict[str, DataLoader[HandBatch]]:
        """Return the loader of the validation set, or those of several as :meth:`val_dataloaders` does."""
        loaders = self.val_dataloaders()
        return loaders if len(loaders) > 1 else loaders.popitem()[1]

    def transfer_batch_to_device(
        self, batch: HandBatch | UncolouredBatch, device: torch.device, dataloader_idx: int
    ) -> HandBatch | UncolouredBatch:
        """Copy a batch, to CUDA without waiting for it."""
        return batch.to(device, non_blocking=device.type == "cuda")

    def on_after_batch_transfer(self, batch: HandBatch | UncolouredBatch, dataloader_idx: int) -> HandBatch:
        """Change the colours that are left to the device."""
        return colour(batch) if isinstance(batch, UncolouredBatch) else batch

    def crops(self, split: Literal["train", "val"]) -> Iterator[HandBatch]:
        """Yield the crops that can be read one by one: of training in its first epoch's order, of all validation sets.

        Raises:
            SampleError: If more samples are skipped than may be.
        """
        sets = [self._train] if split == "train" else list(self._val.values())
        for crops in sets:
            if crops is not None:
                keys = EpochSampler(len(crops), self._seed) if split == "train" else range(len(crops))
                yield from filter(len, self._skipped.watch(crops[key] for key in keys))

    def _rank_and_replicas(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _loader_arguments(self) -> dict[str, Any]:
        return {
            "skipped": self._skipped,
            "batch_size": self._batch_size,
            "num_workers": self.workers,
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
