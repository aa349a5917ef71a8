"""Hand mesh recovery from a single RGB image, as a PyTorch Lightning library.

The way of the data, and the file for each step::

    image (B,3,256,256)
      -> backbones.py     heat-maps + features
      -> regressors.py    HandParameters (camera, global_orient, hand_pose, betas), one per iteration
      -> decoders.py      vertices, joints_3d            (hand_model.py: the open hand, or a MANO file)
      -> projection.py    joints_2d, points
      -> renderers/       silhouette
      -> losses/          one file a term;  metrics/: what is reported

``types.py`` holds what flows, with the legend of axes, frames and units; ``module.py`` composes the steps into a
LightningModule; ``data/`` feeds it; ``recipe.py`` builds all of it from YAML; ``fit.py`` trains, ``evaluation/``
measures and ``ablation.py`` compares what has been trained, and ``inference.py`` readies it for use; ``cli/`` holds the
commands; ``registry.py`` finds plugins. Modules that begin with ``_`` hold the kernels of the one that they are named
after.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hamr_lightning.checkpoint import load_checkpoint
    from hamr_lightning.decoders import ManoDecoder
    from hamr_lightning.hand_model import HandModel
    from hamr_lightning.module import HAMRModule
    from hamr_lightning.projection import fit_camera, project
    from hamr_lightning.recipe import Recipe, RecipeError, load_recipe
    from hamr_lightning.registry import available, build, register
    from hamr_lightning.types import HandBatch, HandMesh, HandParameters, HandPrediction

__version__ = "0.1.0"

_MODULE_OF = {
    "HAMRModule": "module",
    "HandBatch": "types",
    "HandMesh": "types",
    "HandModel": "hand_model",
    "HandParameters": "types",
    "HandPrediction": "types",
    "ManoDecoder": "decoders",
    "Recipe": "recipe",
    "RecipeError": "recipe",
    "available": "registry",
    "build": "registry",
    "fit_camera": "projection",
    "load_checkpoint": "checkpoint",
    "load_recipe": "recipe",
    "project": "projection",
    "register": "registry",
}

__all__ = [  # noqa: RUF022 - in the order of use
    "load_recipe", "Recipe", "RecipeError", "load_checkpoint", "HAMRModule",
    "HandModel", "ManoDecoder", "project", "fit_camera",
    "build", "available", "register",
    "HandBatch", "HandMesh", "HandParameters", "HandPrediction",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch and Lightning take seconds that ``--help`` need not wait."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
