"""From a checkpoint to the figures of its model on every validation set."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from hamr_lightning.checkpoint import load_checkpoint
from hamr_lightning.errors import UserError
from hamr_lightning.evaluation.evaluate import Evaluation, evaluate
from hamr_lightning.evaluation.protocols import PROTOCOLS
from hamr_lightning.evaluation.report import curves_of, read_curves, write_report
from hamr_lightning.recipe import Recipe, override
from hamr_lightning.types import HandBatch, HandPrediction


def evaluate_checkpoint(
    checkpoint: Path,
    overrides: Sequence[str],
    protocol: str,
    folder: Path,
    curves: Path | None = None,
    device: str | None = None,
) -> dict[str, Evaluation]:
    """Evaluate a checkpoint's model on its recipe's validation sets, and write each one's report.

    Args:
        checkpoint: Of hamr-fit.
        overrides: Changes to its recipe, such as ``data.name=rhd`` and ``data.root=DIR``.
        protocol: A name of :data:`PROTOCOLS`.
        folder: Where the reports go, a folder in it for each set.
        curves: A file of published curves, see :func:`hamr_lightning.evaluation.report.read_curves`.
        device: Where the model runs; None takes a GPU if there is one.

    Returns:
        The evaluations by the set's name.

    Raises:
        CheckpointError, RecipeError, CurvesError: If a file is missing or has mistakes.
        UserError: If the protocol or the device is not known, or no sample can be read.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, give a folder for the reports")
    published = {} if curves is None else read_curves(curves)
    place = _device(device)
    model = load_checkpoint(checkpoint, overrides).to(place)
    recipe = Recipe(model.hparams["recipe"], {(): str(checkpoint)})
    if PROTOCOLS[protocol].to_scorer is not None:
        recipe = override(recipe, ["data.max_skipped=0"])  # a scorer wants a prediction for every picture
    data = recipe.build_evaluation()

    def predict(batch: HandBatch) -> HandPrediction:
        return model(batch.image)

    evaluations = {}
    for name, loader in data.val_dataloaders().items():
        batches = (batch.to(place) for batch in tqdm(loader, desc=name, leave=False, disable=None))
        evaluations[name] = evaluate(predict, batches, PROTOCOLS[protocol])
        write_report(evaluations[name], folder / name, model.decoder.faces, curves_of(published, name))
    return evaluations


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        one = torch.ones(1, device=name)
        one.item()  # as PyTorch's device "meta" has no numbers
        return one.device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
