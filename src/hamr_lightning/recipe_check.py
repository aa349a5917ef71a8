"""The check of a recipe's sections: each one's class, its arguments, and all mistakes at once."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from hamr_lightning.arguments import Problem, check_arguments, parameters
from hamr_lightning.registry import find, nearest
from hamr_lightning.strict_yaml import KeyPath

SECTIONS: Final = (
    "extends",
    "name",
    "seed",
    "backbone",
    "regressor",
    "decoder",
    "renderer",
    "losses",
    "optimizer",
    "scheduler",
    "data",
    "trainer",
    "logger",
)

SPLITS: Final = ("train", "val", "test")
"""Where the data section can list several data sets."""

_REQUIRED: Final = ("name", "backbone", "regressor", "decoder", "losses", "optimizer", "data")
_FILLED_IN: Final[Mapping[str, tuple[str, ...]]] = {
    "regressor": ("feature_channels", "parameter_count"),
    "renderer": ("faces",),
    "optimizer": ("params",),
    "scheduler": ("optimizer",),
    "data": ("split", "seed"),
    "trainer": ("logger", "callbacks", "default_root_dir", "use_distributed_sampler", "enable_checkpointing"),
    "logger": ("save_dir", "root_dir", "dir", "version", "experiment"),
}
"""What the library gives to each part's constructor; a recipe may not."""

_SHARERS: Final[Mapping[str, tuple[str, ...]]] = {
    "optimizer": ("backbone", "regressor", "decoder", "renderer", "losses", "optimizer", "scheduler"),
    "data": ("train", "val", "seed"),
    "trainer": (),
}
"""Likewise, for the model, the data module and the compilation, whose other arguments stand in these sections."""


_PRECISIONS: Final = ("32-true", "16-mixed", "bf16-mixed")
"""Lightning's others convert batches, or what the mesh and the camera are computed with."""


@dataclass(frozen=True)
class Part:
    """A class and the arguments that the recipe has for its constructor."""

    component: type
    arguments: Mapping[str, Any]

    def build(self, **filled_in: Any) -> Any:
        """Call the constructor with what the library fills in."""
        return self.component(**self.arguments, **filled_in)

    def argument(self, name: str) -> Any:
        """Return an argument's value or default, None if there is no such argument."""
        parameter = parameters(self.component).get(name)
        return self.arguments.get(name, parameter and parameter.default)


def check(tree: Mapping[str, Any]) -> tuple[dict[KeyPath, Part], list[Problem]]:
    """Check a resolved recipe.

    Returns:
        The parts by their sections' paths (a loss's and a listed data set's by its own; what ``optimizer``, ``data``
        and ``trainer`` hold for the model, the data module and the compilation by section and "module"), and the
        mistakes.
    """
    checker = _Checker(tree)
    checker.run()
    return checker.parts, checker.problems


class _Checker:
    """Finds each section's class, converts its arguments, and collects all mistakes."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._tree = tree
        self.parts: dict[KeyPath, Part] = {}
        self.problems: list[Problem] = []

    def run(self) -> None:
        known = [section for section in SECTIONS if section != "extends"]
        for section in self._tree:
            if section not in known:
                self._blame((section,), f"no such section; {nearest(section, known)}")
        for section in _REQUIRED:
            if self._tree.get(section) is None:
                self._blame((section,), "is missing")
        self._check_name_and_seed()
        for section in ("backbone", "regressor", "decoder", "renderer"):
            self._add(section, partial(find, section))
        self._add_losses()
        self._add_shared("optimizer", self._tree.get("optimizer"), _find_optimizer)
        self._add("scheduler", _find_scheduler)
        self._add_data()
        self._add_trainer()
        self._add("logger", _find_logger)
        self._check_silhouette()
        self._check_plateau()

    def _blame(self, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(path, message))

    def _check_name_and_seed(self) -> None:
        name, seed = self._tree.get("name"), self._tree["seed"]
        if name is not None and not (isinstance(name, str) and re.fullmatch(r"\w[\w.+-]*", name)):
            self._blame(("name",), f"must be a name of letters, digits and . _ + - (it names a folder), got {name!r}")
        if type(seed) is not int or not 0 <= seed < 2**32:
            self._blame(("seed",), f"must be a whole number from 0 to {2**32 - 1}, got {seed!r}")

    def _add(self, section: str, find_class: Callable[[str], type]) -> None:
        node = self._tree.get(section)
        if node is None:
            return
        component = self._class((section,), node, find_class)
        if component is not None:
            self._add_part((section,), component, _arguments(node), _FILLED_IN.get(section, ()))

    def _add_losses(self) -> None:
        losses = self._tree.get("losses")
        if losses is None:
            return
        if not isinstance(losses, dict):
            return self._blame(("losses",), f"must be a mapping from losses' names to their arguments, got {losses!r}")
        if not any(node is not None for node in losses.values()):
            self._blame(("losses",), "must hold at least one loss")
        for name, node in losses.items():
            path = ("losses", name)
            component = self._found(path, name, partial(find, "loss"))
            if node is not None and not isinstance(node, dict):
                self._blame(path, f"must be a mapping of arguments, such as {{weight: 1}}, or null, got {node!r}")
            elif node is not None and component is not None:
                self._add_part(path, component, node, ())

    def _add_shared(self, section: str, node: Any, find_class: Callable[[str], type]) -> None:
        """Add a section some of whose keys are arguments of another class, which the section's part goes to."""
        component = None if node is None else self._class((section,), node, find_class)
        if not isinstance(node, dict):
            return
        self._add_sharer(section, node)
        if component is None:
            return
        sharer_keys, arguments, filled_in = shared_keys(section), _arguments(node), _FILLED_IN[section]
        own_keys = parameters(component).keys() - sharer_keys
        for name in (name for name in arguments if name not in own_keys | sharer_keys):
            known = sorted((own_keys | sharer_keys) - set(filled_in))
            sharer = _sharer(section).__name__
            self._blame((section, name), f"neither {node['name']} nor {sharer} takes it; {nearest(name, known)}")
        own = {name: value for name, value in arguments.items() if name in own_keys}
        self._add_part((section,), component, own, filled_in)

    def _add_sharer(self, section: str, node: Mapping[str, Any]) -> None:
        shared = {name: value for name, value in node.items() if name in shared_keys(section)}
        self._add_part((section,), _sharer(section), shared, _SHARERS[section])
        self.parts[section, "module"] = self.parts.pop((section,))

    def _add_data(self) -> None:
        node = self._tree.get("data")
        if not isinstance(node, dict):
            return self._add_shared("data", node, partial(find, "dataset"))
        single = {key: value for key, value in node.items() if key not in SPLITS}
        lists = {split: node[split] for split in SPLITS if node.get(split) is not None}
        if "train" in lists:
            self._add_sharer("data", single)
            for key in single.keys() - shared_keys("data"):
                self._blame(("data", key), "belongs to a single data set; give it to an entry of data.train")
        else:
            self._add_shared("data", single, partial(find, "dataset"))
        for split, entries in lists.items():
            self._add_datasets(("data", split), entries)

    def _add_datasets(self, path: KeyPath, entries: Any) -> None:
        if not (isinstance(entries, list) and entries):
            return self._blame(path, f"must be a list of data sets [{{name: ..., its arguments}}], got {entries!r}")
        for place, entry in enumerate(entries):
            own = (*path, str(place))
            component = self._class(own, entry, partial(find, "dataset"))
            if component is None:
                continue
            arguments = _arguments(entry)
            weight = arguments.pop("weight", 1) if path == ("data", "train") else 1
            if type(weight) not in (int, float) or not 0 < weight < float("inf"):
                self._blame((*own, "weight"), f"must be a number above 0, got {weight!r}")
            self._add_part(own, component, arguments, _FILLED_IN["data"])

    def _add_trainer(self) -> None:
        from pytorch_lightning import Trainer

        node = self._tree["trainer"]
        if not isinstance(node, dict):
            return self._blame(
                ("trainer",), f"must be a mapping of pytorch_lightning.Trainer's arguments, got {node!r}"
            )
        self._add_sharer("trainer", node)
        own = {name: value for name, value in node.items() if name not in shared_keys("trainer")}
        self._add_part(("trainer",), Trainer, own, _FILLED_IN["trainer"])
        precision = node.get("precision")
        if precision is not None and str(precision) not in (*_PRECISIONS, "32"):
            self._blame(("trainer", "precision"), f"must be {' or '.join(_PRECISIONS)}, got {precision!r}")

    def _check_plateau(self) -> None:
        from torch.optim.lr_scheduler import ReduceLROnPlateau

        trainer, scheduler = self.parts.get(("trainer",)), self.parts.get(("scheduler",))
        needs_loss = scheduler is not None and scheduler.component is ReduceLROnPlateau
        if needs_loss and trainer is not None and trainer.argument("limit_val_batches") == 0:
            self._blame(
                ("trainer", "limit_val_batches"),
                "must not be 0, as the scheduler ReduceLROnPlateau needs val/loss; change either, or set scheduler to "
                "null",
            )

    def _check_silhouette(self) -> None:
        renderer, data = self.parts.get(("renderer",)), self.parts.get(("data", "module"))
        needy = [path for path, part in self.parts.items() if getattr(part.component, "needs_silhouette", False)]
        if self._tree["renderer"] is None:
            for path in needy:
                self._blame(
                    path, f"needs a silhouette, but renderer is null; give a renderer or set {'.'.join(path)} to null"
                )
        if not (needy and renderer and data):
            return
        size, image_size = renderer.argument("size"), data.argument("image_size")
        if isinstance(size, int) and isinstance(image_size, int) and size > 0 and image_size % size:
            self._blame(
                ("renderer", "size"),
                f"must divide data.image_size, {image_size}, for the losses on the mask, got {size}",
            )

    def _class(self, path: KeyPath, node: Any, find_class: Callable[[str], type]) -> type | None:
        if not isinstance(node, dict):
            self._blame(path, f"must be a mapping {{name: ..., its arguments}}, got {node!r}")
            return None
        if not isinstance(node.get("name"), str):
            what = "data set" if path[0] == "data" else path[0]
            self._blame((*path, "name"), f"must name the {what}, got {node.get('name')!r}")
            return None
        return self._found((*path, "name"), node["name"], find_class)

    def _found(self, path: KeyPath, name: str, find_class: Callable[[str], type]) -> type | None:
        try:
            return find_class(name)
        except ValueError as error:
            self._blame(path, str(error))
            return None

    def _add_part(self, path: KeyPath, component: type, given: Mapping[str, Any], filled_in: Sequence[str]) -> None:
        converted, problems = check_arguments(component, given, filled_in, path)
        self.parts[path] = Part(component, converted)
        self.problems += problems


def _arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "name"}


def data_nodes(tree: Mapping[str, Any], split: str) -> dict[KeyPath, Mapping[str, Any]]:
    """Return the nodes of the data sets of "train", "val" or "test", by their paths.

    A section that lists none for the split takes those of the split before, at last the single one that it is.
    """
    node = tree["data"]
    for place in reversed(SPLITS[: SPLITS.index(split) + 1]):
        if node.get(place) is not None:
            return {("data", place, str(number)): entry for number, entry in enumerate(node[place])}
        if place != "test" and "name" in node:
            return {("data",): node}
    raise AssertionError("a checked data section has a name or trains on a list")


def shared_keys(section: str) -> frozenset[str]:
    """Return the keys of a section that go to another class than the section's own."""
    return frozenset(parameters(_sharer(section))) - set(_SHARERS[section]) if section in _SHARERS else frozenset()


def _sharer(section: str) -> type:
    from hamr_lightning.data.datamodule import HandDataModule
    from hamr_lightning.module import HAMRModule
    from hamr_lightning.runs import Compilation

    return {"optimizer": HAMRModule, "data": HandDataModule, "trainer": Compilation}[section]


def _find_optimizer(name: str) -> type:
    from torch import optim

    return _find_subclass(optim, optim.Optimizer, "optimizer", name)


def _find_scheduler(name: str) -> type:
    from torch.optim import lr_scheduler

    return _find_subclass(lr_scheduler, lr_scheduler.LRScheduler, "scheduler", name)


def _find_subclass(module: Any, base: type, kind: str, name: str) -> type:
    known = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base and not key.startswith("_")
    }
    if name not in known:
        raise ValueError(f"no {kind} is named {name!r} in {module.__name__}; {nearest(name, sorted(known))}")
    return known[name]


def _find_logger(name: str) -> type:
    from hamr_lightning import runs

    if name not in runs.LOGGERS:
        raise ValueError(f"no logger is named {name!r}; {nearest(name, sorted(runs.LOGGERS))}")
    return runs.LOGGERS[name]
