"""A run's folder: checkpoints, metrics and the recipe, and the trainer that fills it.

==========================  ===========================================================================
``recipe.yaml``             the resolved recipe
``checkpoints/last.ckpt``   the newest state, of every 200th step and every epoch's end, or of the stop
``checkpoints/best.ckpt``   the state with the least ``val/loss``
``metrics.csv``             what was logged, a row for each time
``metrics.json``            the final figures, and those of the best constant prediction
``figures/``                the course of training; validation samples as predicted
==========================  ===========================================================================
"""

import csv
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final, final

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_info, rank_zero_only

RUNS: Final = Path("runs")
LAST: Final = Path("checkpoints", "last.ckpt")
METRICS: Final = "metrics.csv"
RECIPE: Final = "recipe.yaml"
STEPS_BETWEEN_CHECKPOINTS: Final = 200

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def new_folder(recipe_name: str) -> Path:
    """Return where a new run of a recipe belongs, without making the folder."""
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = (started if number == 1 else f"{started}_{number}" for number in range(1, 1000))
    return next(folder for name in names if not (folder := RUNS / recipe_name / name).exists())


def last_checkpoint(recipe_name: str) -> Path | None:
    """Return the last checkpoint of a recipe's newest run that has one, None if there is none."""
    checkpoints = [folder / LAST for folder in RUNS.joinpath(recipe_name).glob("*") if (folder / LAST).is_file()]
    return max(checkpoints, key=lambda path: path.stat().st_mtime, default=None)


class Stopped(Exception):  # noqa: N818 - no error
    """A signal has stopped training.

    Attributes:
        signum: The signal.
        checkpoint: Where the state was saved, if there was any.
    """

    def __init__(self, signum: int, step: int, checkpoint: Path) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}")
        self.signum = signum
        self.checkpoint = checkpoint


@final
class MetricsFile(Logger):
    """Writes what is logged to ``metrics.csv``, and goes on with the file of a run that is resumed.

    Args:
        save_dir: The run's folder.
    """

    def __init__(self, save_dir: Path) -> None:
        super().__init__()
        self._path = save_dir / METRICS
        self._columns: list[str] = []

    @property
    def name(self) -> str | None:
        """No sub-folder."""
        return None

    @property
    def version(self) -> int | str | None:
        """No sub-folder."""
        return None

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the recipe is in the folder."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row."""
        row = {"step": step, **metrics}
        if not set(row) <= set(self._columns):
            self._widen(row)
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _widen(self, row: Mapping[str, Any]) -> None:
        rows: list[dict[str, Any]] = []
        resumed = not self._columns
        if self._path.is_file():
            with self._path.open(newline="") as file:
                reader = csv.DictReader(file)
                rows, self._columns = list(reader), list(reader.fieldnames or [])
        if resumed:  # from a checkpoint that may be older than the last rows, which are then logged again
            rows = [old for old in rows if int(old["step"]) < row["step"]]
        self._columns += [column for column in row if column not in self._columns]
        with self._path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)


LOGGERS: Final[Mapping[str, type[Logger]]] = {
    "csv": MetricsFile,
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
}

_PLACED: Final[Mapping[str, Mapping[str, str]]] = {"tensorboard": {"name": "tensorboard", "version": ""}, "wandb": {}}


def build_loggers(folder: Path, name: str | None, arguments: Mapping[str, Any]) -> list[Logger]:
    """Build the metrics file, which every run has, and the logger that the recipe names beside it."""
    if name is None or name not in _PLACED:
        return [MetricsFile(folder)]
    return [MetricsFile(folder), LOGGERS[name](save_dir=folder, **_PLACED[name], **arguments)]  # type: ignore[call-arg]


def build_trainer(
    folder: Path, recipe_yaml: str, loggers: Sequence[Logger], compilation: Callback, arguments: Mapping[str, Any]
) -> pl.Trainer:
    """Build a trainer that keeps everything in a run's folder, which is made when training starts."""
    best = ModelCheckpoint(
        dirpath=folder / "checkpoints",
        filename="best",
        monitor="val/loss",
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    return pl.Trainer(
        **{"enable_model_summary": False, **arguments},
        logger=loggers,
        callbacks=[
            RecipeFile(folder / RECIPE, recipe_yaml),
            compilation,
            LearningRateMonitor("epoch"),
            LastCheckpoint(folder / LAST),
            best,
        ],
        default_root_dir=folder,
        use_distributed_sampler=False,
    )


@final
class RecipeFile(Callback):
    """Writes the resolved recipe into a run's folder when training starts."""

    def __init__(self, path: Path, recipe_yaml: str) -> None:
        self._path = path
        self._recipe_yaml = recipe_yaml

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write."""
        if stage == "fit" and trainer.is_global_zero:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(self._recipe_yaml, encoding="utf-8")


@final
class Compilation(Callback):
    """Has torch compile backbone and regressor where training starts: minutes of waiting for faster steps.

    The decoder and the renderer have kernels of their own.

    Args:
        compile: Whether to.
    """

    def __init__(self, compile: bool = False) -> None:
        self._compile = compile

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compile at the first batch, in place: checkpoints are the same with and without."""
        if self._compile and stage == "fit":
            rank_zero_info("compiling the network at its first batches, which takes minutes")
            for part in (pl_module.backbone, pl_module.regressor):
                part.compile()  # type: ignore[union-attr]


@final
class LastCheckpoint(Checkpoint):
    """Saves the newest state every so many steps, at every epoch's end, and when SIGINT or SIGTERM asks to stop.

    The signals are taken inside :meth:`stoppable` only. Training then ends after the batch that it is in, on all
    ranks, by raising :class:`Stopped`; a second SIGINT ends it at once, without saving.

    Args:
        path: The checkpoint's file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._signum: int | None = None
        self._taking_signals = False
        self._saved_step = 0

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Take the signals. Elsewhere than in the main thread, where Python gives none, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {signum: signal.getsignal(signum) for signum in _SIGNALS}
        self._taking_signals = True
        self._take_signals()
        try:
            yield
        finally:
            self._taking_signals = False
            for signum, handler in handlers.items():
                signal.signal(signum, handler)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Agree on the first rank's path."""
        self.path = trainer.strategy.broadcast(self.path)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals again, as Lightning has put its own handler of SIGTERM before."""
        self._saved_step = trainer.global_step
        if self._taking_signals and self._signum is None:
            self._take_signals()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Save if it is time to; stop if asked to."""
        if trainer.global_step - self._saved_step >= STEPS_BETWEEN_CHECKPOINTS:
            self._save(trainer)
        self._stop_if_asked(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Stop if asked to. Training resumes after the validation that was broken off."""
        if trainer.world_size == 1:  # ranks may have unequal numbers of batches, and must not wait for each other here
            self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if asked to."""
        self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save."""
        self._save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Stop too if the signal took the loader's workers along, and without saving at a second SIGINT."""
        if self._signum is None or isinstance(exception, Stopped):
            return
        if not isinstance(exception, KeyboardInterrupt):
            self._save(trainer)
        raise Stopped(self._signum, trainer.global_step, self.path) from exception

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)
        self._saved_step = trainer.global_step

    def _take_signals(self) -> None:
        for signum in _SIGNALS:
            signal.signal(signum, self._ask_to_stop)

    def _ask_to_stop(self, signum: int, frame: FrameType | None) -> None:
        self._signum = signum
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(2, b"\nstopping after this batch; Ctrl-C stops at once, without saving\n")  # printing may not re-enter

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if not trainer.strategy.reduce_boolean_decision(self._signum is not None, all=False):
            return
        if not trainer.sanity_checking:
            self._save(trainer)
        raise Stopped(self._signum or signal.SIGTERM, trainer.global_step, self.path)
