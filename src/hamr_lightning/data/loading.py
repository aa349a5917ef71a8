"""What worker processes run: samples cropped to batches of one, by keys that hold all there is to know.

Apart from the data module so that workers, which import this, need not import Lightning.
"""

import signal
from collections.abc import Iterator

import cv2
import numba
import numpy as np
from torch.utils.data import Dataset, Sampler

from hamr_lightning.data.base import HandDataset
from hamr_lightning.data.crop import HandCrop
from hamr_lightning.errors import UserError
from hamr_lightning.types import HandBatch

_ORDER_STREAM, _CROP_STREAM = (1,), (2,)


class SampleError(UserError):
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

    Attributes:
        epoch: The epoch that the next iteration is of.
        skipped: How many keys the next iteration leaves out at its beginning.
    """

    def __init__(self, length: int, seed: int = 0, rank: int = 0, replicas: int = 1) -> None:
        self._length, self._seed, self._rank, self._replicas = length, seed, rank, replicas
        self.epoch = self.skipped = 0

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
        for index in order[self._rank : len(self) * self._replicas : self._replicas][self.skipped :]:
            yield self.epoch, int(index)


def set_up_worker(worker: int) -> None:
    """Keep a worker process from starting threads of its own, and from ending before the trainer says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of the terminal
    cv2.setNumThreads(1)
    numba.set_num_threads(1)
