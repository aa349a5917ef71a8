"""One training run, from a recipe to a folder with its checkpoints, figures and final metrics."""

import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Final, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_info

from hamr_lightning import runs
from hamr_lightning.atomic import written_whole
from hamr_lightning.baseline import Constant
from hamr_lightning.checkpoint import read_checkpoint, restore_weights, saved_recipe
from hamr_lightning.data.datamodule import HandDataModule
from hamr_lightning.errors import UserError
from hamr_lightning.figures import plot_training, prediction_sheet, save_png
from hamr_lightning.losses.seg import average_to
from hamr_lightning.module import HAMRModule
from hamr_lightning.recipe import Recipe, override
from hamr_lightning.runs import LAST, METRICS, RECIPE, LastCheckpoint
from hamr_lightning.types import HandBatch, HandPrediction

FIGURES: Final = {
    "auc_3d": "3D PCK AUC (20-50 mm)",
    "joint_error_mm": "mean joint error (mm)",
    "miou": "mIoU",
}
"""The final figures and their labels."""

CONSTANT_SAMPLES: Final = 512
"""Training samples that the best constant prediction is found from, if there are so many, in whole batches."""

SHEET_ROWS: Final = 8


class RunError(UserError):
    """A run cannot start or go on as it was asked to."""


@dataclass(frozen=True)
class FitResult:
    """What a run came to.

    Attributes:
        folder: The run's folder.
        step: Optimizer steps taken, those before a resumption included.
        model: The trained model's figures on the validation data, by the keys of :data:`FIGURES`; of several sets, by
            ``<set>/<key>``.
        constant: Those of the best constant prediction for up to :data:`CONSTANT_SAMPLES` training samples; in a
            distributed run, on the first process alone.
        skipped: What was wrong with each sample that could not be read, on this process.
    """

    folder: Path
    step: int
    model: Mapping[str, float]
    constant: Mapping[str, float]
    skipped: Sequence[str]


def fit(recipe: Recipe, output: Path | None = None, resume: Path | Literal["auto"] | None = None) -> FitResult:
    """Train a recipe's model.

    Nothing is written before model, data and trainer are built. SIGINT and SIGTERM save a checkpoint and stop.

    Args:
        recipe: What to train.
        output: The run's folder; by default a new one under ``runs/<name>``, or that of the checkpoint.
        resume: A checkpoint to go on from; "auto" takes the last one of ``output``, or of the recipe's newest run
            that has one, and starts anew if there is none.

    Raises:
        RunError: If the folder holds something else already.
        RecipeError: If the recipe's parts refuse their values.
        CheckpointError: If the checkpoint is refused or does not fit the recipe.
        hamr_lightning.runs.Stopped: If a signal stopped it, after the checkpoint was saved.
    """
    checkpoint = _find_checkpoint(recipe, output, resume)
    folder = _choose_folder(recipe, output, checkpoint)
    pl.seed_everything(recipe.seed, workers=True, verbose=False)
    model, data = recipe.build_model(), recipe.build_datamodule()
    _try(recipe, model, data)
    with _without_known_noise():
        trainer = recipe.build_trainer(folder)
        if trainer.is_global_zero:
            _check_folder(folder, checkpoint, resume)
        if checkpoint is not None:
            _check_resumption(model, recipe, checkpoint)
        size = sum(parameter.numel() for parameter in model.parameters())
        rank_zero_info(f"training {recipe.name}, {size:,} parameters, in {folder}")
        _leave_cores_to_workers(trainer, data)
        _train(trainer, model, data, checkpoint)
        return _report(recipe, trainer, model, data)


def _find_checkpoint(recipe: Recipe, output: Path | None, resume: Path | Literal["auto"] | None) -> Path | None:
    if resume != "auto":
        return resume
    if output is None:
        return runs.last_checkpoint(recipe.name)
    return output / LAST if (output / LAST).is_file() else None


def _choose_folder(recipe: Recipe, output: Path | None, checkpoint: Path | None) -> Path:
    if output is not None:
        return output
    if checkpoint is not None and checkpoint.parent.name == LAST.parent.name:
        return checkpoint.parent.parent
    return runs.new_folder(recipe.name)


def _check_folder(folder: Path, checkpoint: Path | None, resume: Path | Literal["auto"] | None) -> None:
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file, give a folder for the run")
    continued = checkpoint is not None and checkpoint.parent.resolve() == (folder / LAST).parent.resolve()
    begun = resume == "auto" and (folder / RECIPE).is_file()
    if not (continued or begun) and folder.is_dir() and any(folder.iterdir()):
        raise RunError(f"{folder}: is not empty; give another folder, or go on with the run in it by --resume auto")


def _try(recipe: Recipe, model: HAMRModule, data: HandDataModule) -> None:
    """Let what does not fit together show before anything is written."""
    data.train_dataloader()
    one = override(recipe, ["data.batch_size=1", "data.workers=0"]).build_datamodule()
    model.eval()
    for name, loader in one.val_dataloaders().items():
        batch = next(iter(loader), None)
        if batch is None:
            raise RunError(f"recipe {recipe.name}: no sample of the validation set {name} can be read")
        try:
            with torch.no_grad():
                prediction = model(batch.image)
                for loss in model.losses.values():
                    loss(prediction, batch)
        except (ValueError, RuntimeError) as error:
            raise RunError(f"recipe {recipe.name}: model and data do not fit together: {error}") from error
    model.train()


def _check_resumption(model: HAMRModule, recipe: Recipe, checkpoint: Path) -> None:
    state = read_checkpoint(checkpoint)
    restore_weights(model, state, checkpoint)
    for section in ("optimizer", "scheduler"):
        saved, asked = (
            tree.get(section) or {"name": None} for tree in (saved_recipe(state, checkpoint), recipe.to_dict())
        )
        if saved["name"] != asked["name"]:
            raise RunError(f"{checkpoint}: its {section} is {saved['name']}, that of the recipe {asked['name']}")


def _leave_cores_to_workers(trainer: pl.Trainer, data: HandDataModule) -> None:
    # Threads that wait for one whose core a worker has taken cost far more than they bring.
    if trainer.strategy.root_device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() - data.workers))


def _train(trainer: pl.Trainer, model: HAMRModule, data: HandDataModule, checkpoint: Path | None) -> None:
    last = next(callback for callback in trainer.checkpoint_callbacks if isinstance(callback, LastCheckpoint))
    try:
        with last.stoppable():
            trainer.fit(model, datamodule=data, ckpt_path=checkpoint)
    except MisconfigurationException as error:
        raise RunError(str(error)) from error


@contextmanager
def _without_known_noise() -> Iterator[None]:
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    logger.addFilter(_no_advertisement)
    try:
        with warnings.catch_warnings():
            # A resumed run's folder of checkpoints is not empty; the other is torch's, about Lightning's own code.
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            yield
    finally:
        logger.removeFilter(_no_advertisement)


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "litlogger" not in record.msg


def _report(recipe: Recipe, trainer: pl.Trainer, model: HAMRModule, data: HandDataModule) -> FitResult:
    validated: dict[str, float] = {}
    for figures in trainer.validate(model, datamodule=data, verbose=False):
        validated |= figures
    folder = Path(trainer.default_root_dir)
    keys = [f"{prefix}{key}" for prefix in _prefixes(data).values() for key in FIGURES]
    figures = {key: validated[f"val/{key}"] for key in keys if f"val/{key}" in validated}
    constant = _look_at_data(recipe, trainer, model, folder) if trainer.is_global_zero else {}
    result = FitResult(folder, trainer.global_step, figures, constant, data.skipped)
    if trainer.is_global_zero:
        summary = {name: value for name, value in asdict(result).items() if name != "folder"}
        with written_whole(folder / "metrics.json") as file:
            file.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        if (folder / METRICS).is_file():
            plot_training(folder / METRICS, folder / "figures" / "training.png")
    return result


def _prefixes(data: HandDataModule) -> dict[str, str]:
    """Return what stands before a figure's key, by the validation set's name: nothing if there is one set only."""
    return {name: f"{name}/" if len(data.val_names) > 1 else "" for name in data.val_names}


def _look_at_data(recipe: Recipe, trainer: pl.Trainer, model: HAMRModule, folder: Path) -> Mapping[str, float]:
    """Draw the first samples of each validation set; return the figures of the best constant prediction."""
    # A data module of its own: the trainer's gives this rank's share, and varies the training samples.
    data = override(recipe, ["data.augmentation=null"]).build_datamodule()
    constant: Constant | None = None
    figures: dict[str, float] = {}
    limited = zip(data.val_dataloaders().items(), trainer.num_val_batches, strict=False)  # none without validation
    for (name, loader), limit in limited:
        batches = None if math.isinf(limit) else int(limit) * trainer.world_size
        validation = islice(loader, batches)
        first = next(validation)
        prediction = _predict(trainer, model, first)
        sheet = prediction_sheet(first, prediction, model.decoder.faces, SHEET_ROWS)
        prefix = _prefixes(data)[name]
        save_png(sheet, folder / "figures" / f"{prefix.replace('/', '_')}validation.png")
        size = first.image.shape[-1] if prediction.silhouette is None else prediction.silhouette.shape[-1]
        strip = partial(_annotation, size=size, with_mask=prediction.silhouette is not None)
        if constant is None:
            train = data.train_dataloader()
            training = islice(train, math.ceil(CONSTANT_SAMPLES / (train.batch_size or 1)))
            constant = Constant.best(map(strip, training), size)
        found = constant.figures(map(strip, chain([first], validation)))
        figures |= {f"{prefix}{key}": value for key, value in found.items()}
    return figures


def _predict(trainer: pl.Trainer, model: HAMRModule, batch: HandBatch) -> HandPrediction:
    device = trainer.strategy.root_device
    with torch.no_grad():
        return model.eval().to(device)(batch.image[:SHEET_ROWS].to(device))


def _annotation(batch: HandBatch, size: int, with_mask: bool) -> HandBatch:
    """Keep of a batch what the constant prediction needs, so that all of the training samples fit in memory."""
    return HandBatch(
        image=batch.image.new_zeros(()).expand(len(batch), 3, size, size),
        joints_3d=batch.joints_3d,
        joints_3d_valid=batch.joints_3d_valid,
        mask=average_to(batch.mask, size) if with_mask and batch.mask is not None else None,
        mask_valid=batch.mask_valid,
        mirrored=batch.mirrored,
        crop_to_image=batch.crop_to_image,
        image_size_px=batch.image_size_px,
    )
