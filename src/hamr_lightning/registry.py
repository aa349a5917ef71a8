"""The registry of components: built-in ones, one's own by decorator, third parties' by entry point.

A built-in component is found by its file (``losses/geo.py``), a third party's by an entry point in the group
``hamr_lightning.<kind>s`` of its package. Nothing is imported before a component of its kind is asked for, and a
module that fails to import breaks only the components that it would have registered.
"""

import importlib
import pkgutil
import warnings
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Final, TypeVar

ROLE_MODULES: Final = {
    "backbone": "backbones",
    "regressor": "regressors",
    "decoder": "decoders",
    "renderer": "renderers",
    "loss": "losses",
    "dataset": "data",
}
"""Each kind of component and the module or package of ``hamr_lightning`` that holds its built-in ones."""

_ROLES: Final = {
    "backbone": ("backbones", "Backbone"),
    "regressor": ("regressors", "IterativeRegressor"),
    "decoder": ("decoders", "Decoder"),
    "renderer": ("renderers.base", "SilhouetteRenderer"),
    "loss": ("losses.base", "Loss"),
    "dataset": ("data.base", "HandDataset"),
}

ENTRY_POINT_GROUPS: Final = {
    kind: f"hamr_lightning.{module if kind != 'dataset' else 'datasets'}" for kind, module in ROLE_MODULES.items()
}

_Component = TypeVar("_Component", bound=type)

_registered: dict[str, dict[str, type]] = {kind: {} for kind in ROLE_MODULES}
_broken: dict[str, dict[str, Exception]] = {kind: {} for kind in ROLE_MODULES}
_discovered: set[str] = set()


class UnknownComponentError(ValueError):
    """A component's kind or name is not known, or its module does not import."""


def register(kind: str, name: str) -> Callable[[_Component], _Component]:
    """Register the decorated class as the component ``name`` of a kind.

    Args:
        kind: One of "backbone", "regressor", "decoder", "renderer", "loss", "dataset".
        name: The name that recipes use.

    Raises:
        UnknownComponentError: If the kind is not known.
        ValueError: If what is decorated is no subclass of the kind's abstract class, or another class has the name.
    """
    _check_kind(kind)

    def decorate(component: _Component) -> _Component:
        module, role = _ROLES[kind]
        base = getattr(importlib.import_module(f"hamr_lightning.{module}"), role)
        if not (isinstance(component, type) and issubclass(component, base)):
            raise ValueError(f"the {kind} {name!r} must be a subclass of hamr_lightning.{module}.{role}: {component!r}")
        known = _registered[kind].get(name)
        if known is not None and _identity(known) != _identity(component):
            raise ValueError(
                f"a {kind} named {name!r} is registered already ({known.__module__}.{known.__qualname__}); "
                "choose another name"
            )
        _registered[kind][name] = component
        return component

    return decorate


def available(kind: str) -> list[str]:
    """Return the names of all components of a kind that can be used, sorted."""
    _check_kind(kind)
    _discover(kind)
    return sorted(_registered[kind])


def find(kind: str, name: str) -> type:
    """Return the class registered under a name.

    Raises:
        UnknownComponentError: If there is none, with the nearest name; or if the module that holds it does not import,
            with that module's own error.
    """
    _check_kind(kind)
    _discover(kind)
    if name in _registered[kind]:
        return _registered[kind][name]
    if name in _broken[kind]:
        error = _broken[kind][name]
        raise UnknownComponentError(
            f"the {kind} {name!r} cannot be used, its module does not import: {type(error).__name__}: {error}"
        ) from error
    raise UnknownComponentError(f"no {kind} is named {name!r}; {nearest(name, available(kind))}")


def build(kind: str, name: str, **arguments: Any) -> Any:
    """Build a component from its name and its constructor's arguments.

    Example:
        ``loss = build("loss", "geo", weight=1.0)``
    """
    return find(kind, name)(**arguments)


def nearest(name: str, known: list[str]) -> str:
    """Return the part of a message that says which names there are, the nearest to ``name`` first."""
    from difflib import get_close_matches

    listed = ", ".join(known) if known else "none"
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}? Known: {listed}" if close else f"known: {listed}"


def _check_kind(kind: str) -> None:
    if kind not in ROLE_MODULES:
        raise UnknownComponentError(f"no kind of component is named {kind!r}; {nearest(kind, list(ROLE_MODULES))}")


def _identity(component: type) -> tuple[str, str]:
    return component.__module__, component.__qualname__


def _discover(kind: str) -> None:
    if kind in _discovered:
        return
    _discovered.add(kind)
    package = importlib.import_module(f"hamr_lightning.{ROLE_MODULES[kind]}")
    for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
        try:
            importlib.import_module(f"{package.__name__}.{module.name}")
        except Exception as error:
            _broken[kind][module.name] = error
    for entry_point in entry_points(group=ENTRY_POINT_GROUPS[kind]):
        try:
            register(kind, entry_point.name)(entry_point.load())
        except Exception as error:
            _broken[kind][entry_point.name] = error
            if entry_point.name in _registered[kind]:
                warnings.warn(f"the {kind} of {entry_point.value} is left out: {error}", stacklevel=2)
