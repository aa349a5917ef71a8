"""Loading a model from a checkpoint: plain tensors and data only, whatever the file says."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from yaml import YAMLError

from hamr_lightning.errors import UserError
from hamr_lightning.module import HAMRModule
from hamr_lightning.recipe import Recipe, override
from hamr_lightning.strict_yaml import StrictYamlError, dump, parse


class CheckpointError(UserError):
    """A checkpoint is missing, refused, or does not fit the recipe or the hand model."""


def load_checkpoint(path: str | Path, overrides: Sequence[str] = ()) -> HAMRModule:
    """Build the model that a checkpoint holds, on the CPU and in evaluation mode.

    It needs no recipe beside it, the checkpoint holds the one it was trained with. No code in the file is run.

    Args:
        path: A checkpoint of a run.
        overrides: Changes to its recipe, as of :func:`hamr_lightning.load_recipe`: ``decoder.hand=PATH`` where the
            hand model's file lies elsewhere on this machine.

    Raises:
        CheckpointError: If the file is missing, is no checkpoint of this library, or its weights do not fit; or if the
            hand model is another than the one it was trained with.
        RecipeError: If the overrides have mistakes, or a part of the recipe is not to be had on this machine.
    """
    state = read_checkpoint(path)
    recipe = override(Recipe(saved_recipe(state, path), {(): str(path)}), overrides)
    model = recipe.build_model()
    restore_weights(model, state, path)
    return model.eval()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint's content without running code.

    Raises:
        CheckpointError: See :func:`load_checkpoint`.
    """
    if not Path(path).is_file():
        raise CheckpointError(
            f"{path}: no such checkpoint file; hamr-fit leaves them in its run's folder, checkpoints/last.ckpt"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can raise anything
        raise CheckpointError(
            f"{path}: not a checkpoint, broken, or refused because it holds more than tensors and plain data: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        ) from error
    hyperparameters = state.get("hyper_parameters") if isinstance(state, dict) else None
    if not (isinstance(hyperparameters, dict) and {"recipe", "hand"} <= set(hyperparameters) and "state_dict" in state):
        raise CheckpointError(f"{path}: holds no recipe and weights; is it a checkpoint of hamr-fit?")
    return state


def saved_recipe(state: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Return the recipe's sections that a checkpoint holds.

    Raises:
        CheckpointError: If they are anything else than plain data.
    """
    try:
        tree = parse(dump(state["hyper_parameters"]["recipe"]))[0]
    except (YAMLError, StrictYamlError) as error:
        raise CheckpointError(f"{path}: its recipe is not plain data: {error}") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: its recipe is no mapping of sections")
    return tree


def restore_weights(model: HAMRModule, state: Mapping[str, Any], path: str | Path) -> None:
    """Load a checkpoint's weights.

    Raises:
        CheckpointError: If they do not fit the model, or the hand model is another than the checkpoint's.
    """
    trained_with, present = state["hyper_parameters"]["hand"], model.hparams["hand"]
    if trained_with != present:
        raise CheckpointError(
            f"{path}: trained with the hand model {trained_with}, but decoder.hand is {present} (fingerprints); "
            "give the file it was trained with, decoder.hand=PATH"
        )
    try:
        model.load_state_dict(state["state_dict"])
    except (RuntimeError, AttributeError, TypeError) as error:
        lines = str(error).splitlines()
        raise CheckpointError(
            f"{path}: its weights do not fit the recipe's model: {' '.join(line.strip() for line in lines[:3])}"
        ) from error
