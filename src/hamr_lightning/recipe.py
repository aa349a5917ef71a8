"""Recipes: an experiment in YAML, its parts named as in the registry and its values checked before anything is built.

A recipe file is a mapping of sections (see :mod:`hamr_lightning.recipe_check`). ``extends`` names a base recipe, by a
path relative to the file or by the name of a recipe that ships with the package: mappings merge, other values replace
the base's, and a section whose ``name`` changes replaces the base's whole. ``losses`` maps each loss's name to its
arguments; null removes one. ``optimizer`` and ``data`` also hold arguments of :class:`HAMRModule` (warmup_steps) and
:class:`HandDataModule` (batch_size, workers, ...), which a changed ``name`` leaves; ``trainer``, besides those of
Lightning's, that of :class:`~hamr_lightning.runs.Compilation` (compile). The recipe's own ``name`` is not inherited, it
is by default the file's stem. Where a data set takes a ``hand`` (as ``synthetic`` does) and none is
given, it is the decoder's.

In the place of one data set, ``data`` can list several: ``train: [{name: rhd, root: DIR}, {name: synthetic, weight:
0.5}]`` (see :class:`~hamr_lightning.data.mixture.Mixture` for the weights), and ``val``, each of which has metrics of
its own; without ``val``, these are the sets of ``train``. With ``name`` and ``val``, that set trains, those validate.
``test`` lists the sets that hamr-eval takes and training never sees, not even to choose a checkpoint; without it, they
are those of ``val``.

An override is ``key=value``, the key dotted and the value YAML: ``losses.cam.weight=0.2``, ``losses.seg=null``. All
overrides are joined before they are merged, so that their order cannot matter; two that contradict each other are a
mistake. The YAML is plain data (see :mod:`hamr_lightning.strict_yaml`): nothing in a recipe can name code to run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from hamr_lightning.arguments import Problem, parameters
from hamr_lightning.recipe_check import SECTIONS, SPLITS, check, data_nodes, shared_keys
from hamr_lightning.recipe_source import OVERRIDE, RecipeError, Source, merge_overrides, read_recipe, rebase
from hamr_lightning.strict_yaml import KeyPath, dump

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from hamr_lightning.data.base import HandDataset
    from hamr_lightning.data.datamodule import HandDataModule
    from hamr_lightning.hand_model import HandModel
    from hamr_lightning.module import HAMRModule

__all__ = ["Recipe", "RecipeError", "load_recipe", "load_variant", "override"]

_DEFAULTS: Final = {"seed": 0, "renderer": None, "scheduler": None, "trainer": {}, "logger": {"name": "csv"}}


def load_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        recipe: A path, or the name of a recipe that ships with the package: "full", "ablations/no_geo" or "no_geo".
        overrides: Strings such as ``losses.cam.weight=0.2``, in any order.

    Raises:
        RecipeError: If there are mistakes in it. It lists all, each with file and line or override, the dotted key,
            and what is known instead.
    """
    return Recipe(*merge_overrides(read_recipe(recipe, shared_keys), overrides, shared_keys))


def override(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return the recipe with overrides merged into it.

    Raises:
        RecipeError: As :func:`load_recipe`.
    """
    return Recipe(*merge_overrides(recipe.source, overrides, shared_keys))


def load_variant(base: Recipe, recipe: str | Path) -> Recipe:
    """Return a base recipe with what another recipe changes of the one that it extends.

    Args:
        base: The recipe to change.
        recipe: A path, or the name of a recipe that ships with the package. One that extends none is itself.

    Raises:
        RecipeError: As :func:`load_recipe`.
    """
    return Recipe(*rebase(base.source, recipe, shared_keys))


@final
class Recipe:
    """A checked recipe. It does not change; every ``build`` makes a new object.

    Args:
        tree: The sections, as plain data, without ``extends``.
        origins: Where keys come from, for messages; the empty path stands for the whole.

    Raises:
        RecipeError: If there is any mistake in it; the message lists all.
    """

    def __init__(self, tree: Mapping[str, Any], origins: Mapping[KeyPath, str] | None = None) -> None:
        self._origins = dict(origins or {})
        self._tree = deepcopy({**_DEFAULTS, **tree})
        self._parts, problems = check(self._tree)
        self._refuse(problems)
        self._tree["losses"] = {name: node for name, node in self._tree["losses"].items() if node is not None}
        self._tree = {section: self._tree[section] for section in SECTIONS if section in self._tree}

    @property
    def name(self) -> str:
        """The recipe's name, which names its runs' folder."""
        return self._tree["name"]

    @property
    def seed(self) -> int:
        """The seed of weights, order, augmentation and rendered data."""
        return self._tree["seed"]

    def set_names(self, split: str) -> list[str]:
        """Return the names of the sets of "train", "val" or "test": the registered ones, of a second one rhd_2."""
        return _distinct([node["name"] for node in data_nodes(self._tree, split).values()])

    @property
    def data_hand(self) -> str | None:
        """The fingerprint of the hand that data sets are given which name none; None if there is no such set."""
        from hamr_lightning.hand_model import HandModel

        parts = [self._parts[path] for split in SPLITS for path in data_nodes(self._tree, split)]
        if not any("hand" in parameters(part.component).keys() - part.arguments.keys() for part in parts):
            return None
        return (self._hand or HandModel.load("open")).fingerprint

    @property
    def source(self) -> Source:
        """A copy of the resolved sections and where their keys come from."""
        return Source(self.to_dict(), dict(self._origins))

    def to_dict(self) -> dict[str, Any]:
        """Return a copy of the resolved sections, as plain data."""
        return deepcopy(self._tree)

    def to_yaml(self) -> str:
        """Return the resolved recipe, which :func:`load_recipe` reads."""
        return dump(self._tree)

    def build_model(self) -> HAMRModule:
        """Build the model, its weights drawn from torch's global generator.

        Its hyperparameters hold the recipe and the hand model's fingerprint, and so does every checkpoint of it.

        Raises:
            RecipeError: If a part refuses its values, with the part's own message.
        """
        from hamr_lightning.module import HAMRModule

        parts, attempt = self._parts, _Attempt()
        backbone = attempt(("backbone",), parts["backbone",].build)
        decoder = attempt(("decoder",), self._build_decoder)
        losses = {path[1]: attempt(path, part.build) for path, part in parts.items() if path[0] == "losses"}
        self._try_optimizer(attempt)
        self._refuse(attempt.problems)
        sizes = {
            "feature_channels": backbone.feature_channels + backbone.heatmap_channels,
            "parameter_count": 3 + decoder.orient_size + decoder.pose_size + decoder.shape_size,
        }
        regressor = attempt(("regressor",), partial(parts["regressor",].build, **sizes))
        renderer = attempt(("renderer",), partial(self._build_renderer, decoder))
        self._refuse(attempt.problems)
        scheduler = parts.get(("scheduler",))
        make_model = partial(
            HAMRModule,
            backbone,
            regressor,
            decoder,
            renderer,
            losses,
            optimizer=lambda params: parts["optimizer",].build(params=params),
            scheduler=None if scheduler is None else lambda optimizer: scheduler.build(optimizer=optimizer),
            **parts["optimizer", "module"].arguments,
        )
        model = self._build_or_refuse(("optimizer",), make_model)
        hand = getattr(decoder, "hand", None)
        model.save_hyperparameters({"recipe": self.to_dict(), "hand": None if hand is None else hand.fingerprint})
        return model

    def build_datamodule(self) -> HandDataModule:
        """Build the data module.

        Raises:
            RecipeError: If a data set refuses its values or does not find its files.
        """
        return self._build_data("train", "val")

    def build_evaluation(self) -> HandDataModule:
        """Build the data module with the sets to evaluate on, and without training data, whose files may be missing.

        Raises:
            RecipeError: As :meth:`build_datamodule`.
        """
        return self._build_data("test")

    def build_trainer(self, output: str | Path | None = None) -> pl.Trainer:
        """Build a trainer that keeps checkpoints and metrics in a run's folder (see :mod:`hamr_lightning.runs`).

        Args:
            output: The folder, by default a new one under ``runs/<name>``; made when training starts.

        Raises:
            RecipeError: If the trainer refuses its values.
        """
        from hamr_lightning import runs

        folder = runs.new_folder(self.name) if output is None else Path(output)
        node, part = self._tree["logger"], self._parts.get(("logger",))
        name, logger_arguments = (None, {}) if part is None else (node["name"], part.arguments)
        loggers = self._build_or_refuse(("logger",), lambda: runs.build_loggers(folder, name, logger_arguments))
        arguments, compilation = self._parts["trainer",].arguments, self._parts["trainer", "module"].build()
        return self._build_or_refuse(
            ("trainer",), lambda: runs.build_trainer(folder, self.to_yaml(), loggers, compilation, arguments)
        )

    def _try_optimizer(self, attempt: _Attempt) -> None:
        from torch import nn

        weight = nn.Linear(1, 1).parameters()
        optimizer = attempt(("optimizer",), lambda: self._parts["optimizer",].build(params=weight))
        scheduler = self._parts.get(("scheduler",))
        if optimizer is not None and scheduler is not None:
            attempt(("scheduler",), lambda: scheduler.build(optimizer=optimizer))

    def _build_decoder(self) -> Any:
        decoder = self._parts["decoder",].build()
        if decoder.side != "right":
            raise ValueError("the hand must be a right one, as all crops are: left hands are mirrored; got a left hand")
        return decoder

    def _build_renderer(self, decoder: Any) -> Any:
        renderer = self._parts.get(("renderer",))
        if renderer is not None and decoder.faces is None:
            raise ValueError(
                f"the decoder {self._tree['decoder']['name']!r} has no mesh to render; set renderer to null"
            )
        return None if renderer is None else renderer.build(faces=decoder.faces)

    def _build_data(self, *splits: str) -> HandDataModule:
        from hamr_lightning.data.datamodule import HandDataModule

        attempt = _Attempt()
        built = {
            split: [attempt(path, partial(self._build_dataset, path, split)) for path in data_nodes(self._tree, split)]
            for split in splits
        }
        self._refuse(attempt.problems)

        def assemble() -> HandDataModule:
            measured = splits[-1]
            return HandDataModule(
                self._mix(built["train"]) if "train" in built else None,
                dict(zip(self.set_names(measured), built[measured], strict=True)),
                seed=self.seed,
                **self._parts["data", "module"].arguments,
            )

        return self._build_or_refuse(("data",), assemble)

    def _build_dataset(self, path: KeyPath, split: str) -> HandDataset:
        part = self._parts[path]
        open_names = parameters(part.component).keys() - part.arguments.keys()
        filled_in: dict[str, Any] = {"seed": self.seed} if "seed" in open_names else {}
        if "hand" in open_names and self._hand is not None:
            filled_in["hand"] = self._hand
        return part.build(split="train" if split == "train" else "val", **filled_in)

    @cached_property
    def _hand(self) -> HandModel | None:
        """Return the decoder's hand with its finger tips, None if it has none."""
        from hamr_lightning.hand_model import HandModel

        decoder = self._parts["decoder",]
        source, fingertips = decoder.argument("hand"), decoder.argument("fingertips")
        if source is None:
            return None
        hand = HandModel.load(source)
        return hand if fingertips is None else hand.with_fingertips(fingertips)

    def _mix(self, datasets: Sequence[HandDataset]) -> HandDataset:
        from hamr_lightning.data.mixture import Mixture

        weights = [float(node.get("weight", 1)) for node in data_nodes(self._tree, "train").values()]
        return datasets[0] if weights == [1.0] else Mixture(datasets, weights, self.seed)

    def _build_or_refuse(self, path: KeyPath, build: Callable[[], Any]) -> Any:
        attempt = _Attempt()
        built = attempt(path, build)
        self._refuse(attempt.problems)
        return built

    def _refuse(self, problems: Sequence[Problem]) -> None:
        if problems:
            raise RecipeError([*dict.fromkeys(map(self._describe, problems))])

    def _describe(self, problem: Problem) -> str:
        path, origins = problem.path, self._origins
        above = [origins[path[:end]] for end in range(len(path), -1, -1) if path[:end] in origins]
        overrides = [place for key, place in origins.items() if key[: len(path)] == path and place.startswith(OVERRIDE)]
        places = [*(above[:1] if path in origins or not overrides else []), *overrides]
        return ": ".join(filter(None, [", ".join(dict.fromkeys(places)), ".".join(path), problem.message]))


def _distinct(names: Sequence[str]) -> list[str]:
    """Number the names that are there already: rhd, rhd_2."""
    earlier = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{name}_{count + 1}" if count else name for name, count in zip(names, earlier, strict=True)]


class _Attempt:
    """Collects what constructors say against a recipe's values."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def __call__(self, path: KeyPath, build: Callable[[], Any]) -> Any:
        from pytorch_lightning.utilities.exceptions import MisconfigurationException

        try:
            return build()
        except (ValueError, OSError, ImportError, MisconfigurationException) as error:
            self.problems.append(Problem(path, str(error)))
        except TypeError as error:
            self.problems.append(Problem(path, f"TypeError: {error}"))
        return None
