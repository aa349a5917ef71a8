"""What a constructor takes, and whether plain values fit it.

Values are checked against the annotations, by jsonargparse, as far as they are plain data: numbers, strings, lists,
mappings, dataclasses of them. An annotation's other classes are left out before the check, so that no value can name
something to import.
"""

import inspect
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from hamr_lightning.registry import nearest
from hamr_lightning.strict_yaml import KeyPath

_SCALARS: Final = (bool, int, float, str, Path, types.NoneType)
_CONTAINERS: Final = (list, tuple, dict)


@dataclass(frozen=True)
class Parameter:
    """A constructor's parameter."""

    plain_type: Any
    """Its annotation less what is not plain data; Any if not annotated, None if it takes objects only."""
    default: Any
    """``inspect.Parameter.empty`` where it is required."""

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Problem:
    """What is wrong with a value, and where."""

    path: KeyPath
    message: str


@lru_cache(maxsize=256)
def parameters(component: type) -> Mapping[str, Parameter]:
    """Return what a class's constructor takes by keyword; ``**kwargs`` stand for what the next base class takes."""
    found: dict[str, Parameter] = {}
    for owner in component.__mro__[:-1]:
        if "__init__" not in vars(owner):
            continue
        initialiser = vars(owner)["__init__"]
        annotations = _annotations(initialiser)
        own = list(inspect.signature(initialiser).parameters.values())[1:]
        for parameter in own:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                plain_type = _plain(annotations.get(parameter.name, Any))
                found.setdefault(parameter.name, Parameter(plain_type, parameter.default))
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in own):
            break
    return found


def check_arguments(
    component: type, given: Mapping[str, Any], filled_in: Collection[str] = (), path: KeyPath = ()
) -> tuple[dict[str, Any], list[Problem]]:
    """Check the arguments for a constructor.

    Args:
        component: The class.
        given: Arguments of plain data.
        filled_in: Names of parameters that the caller fills in later and that may not be given.
        path: Where ``given`` stands, for the problems' paths.

    Returns:
        The arguments converted to their annotated types, and all that is wrong with those given or missing.
    """
    expected = parameters(component)
    problems: list[Problem] = []
    converted: dict[str, Any] = {}
    for name, value in given.items():
        where = (*path, name)
        if name in filled_in:
            problems.append(Problem(where, "is filled in by the library; remove it"))
        elif name not in expected:
            known = [name for name, parameter in expected.items() if name not in filled_in and parameter.plain_type]
            problems.append(Problem(where, f"{component.__name__} takes no such argument; {nearest(name, known)}"))
        else:
            converted[name], found = _check_value(expected[name].plain_type, value, where)
            problems += found
    problems += [
        Problem((*path, name), f"is missing; {component.__name__} needs it, {_describe(parameter.plain_type)}")
        for name, parameter in expected.items()
        if parameter.required and name not in given and name not in filled_in
    ]
    return converted, problems


def _check_value(plain_type: Any, value: Any, path: KeyPath) -> tuple[Any, list[Problem]]:
    members = _members(plain_type)
    if plain_type is None:
        return None, [Problem(path, "takes an object, which a recipe cannot give; remove it")]
    if plain_type is Any or type(value) in members:
        return value, []
    records = [member for member in members if is_dataclass(member)]
    if records and isinstance(value, Mapping):
        return _check_record(records[0], value, path)
    try:
        return _converted([member for member in members if member not in records], value), []
    except ValueError:
        return None, [Problem(path, f"must be {_describe(plain_type)}, got {value!r}")]


def _converted(types_allowed: Sequence[Any], value: Any) -> Any:
    from jsonargparse import ArgumentError, ArgumentParser

    if value is None or not types_allowed:  # to jsonargparse, None is no value at all
        raise ValueError
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=Union[tuple(types_allowed)])  # noqa: UP007 - computed members
    try:
        return parser.parse_object({"value": value}).value
    except ArgumentError as error:
        raise ValueError from error


def _check_record(record: Any, given: Mapping[str, Any], path: KeyPath) -> tuple[Any, list[Problem]]:
    converted, problems = check_arguments(record, given, path=path)
    if problems:
        return None, problems
    try:
        return record(**converted), []
    except ValueError as error:
        return None, [Problem(path, str(error))]


def _annotations(function: Any) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, AttributeError):  # names imported for the type checker only: nothing to check against
        return {}


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _plain(annotation: Any) -> Any:
    """Return the annotation without what is not plain data, None if nothing is left."""
    origin = get_origin(annotation)
    if annotation is Any or annotation in (*_SCALARS, *_CONTAINERS) or origin is Literal or is_dataclass(annotation):
        return annotation
    if origin in (Union, types.UnionType):
        kept = [member for member in map(_plain, get_args(annotation)) if member is not None]
        return Union[tuple(kept)] if set(kept) - {types.NoneType} else None  # noqa: UP007 - computed members
    if origin in _CONTAINERS:
        items = [item if item is ... else _plain(item) for item in get_args(annotation)]
        return None if any(item is None or is_dataclass(item) for item in items) else origin[tuple(items)]
    return None


def _describe(plain_type: Any) -> str:
    return " or ".join(dict.fromkeys(map(_describe_member, _members(plain_type))))


def _describe_member(member: Any) -> str:
    if get_origin(member) is Literal:
        return " or ".join(map(repr, get_args(member)))
    if is_dataclass(member) or dict in (member, get_origin(member)):
        return "a mapping"
    if get_origin(member) is not None:
        return str(member)
    return {types.NoneType: "null", bool: "true or false"}.get(member, getattr(member, "__name__", str(member)))
