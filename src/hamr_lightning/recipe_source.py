"""From recipe files and overrides to one tree of sections: ``extends``, merging, and where each key comes from."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from hamr_lightning.errors import UserError
from hamr_lightning.registry import nearest
from hamr_lightning.strict_yaml import MAX_CHARACTERS, KeyPath, StrictYamlError, parse

KeptKeys: TypeAlias = Callable[[str], frozenset[str]]
"""Tells which keys of a section a changed name does not remove."""

OVERRIDE: Final = "override"
"""How the place of a key begins that comes from an override and not from a file."""


class RecipeError(UserError):
    """A recipe has mistakes, one or more."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems: Final = tuple(problems)


class Source(NamedTuple):
    """A tree of sections and the file and line, or the override, that each key comes from."""

    tree: dict[str, Any]
    origins: dict[KeyPath, str]


def read_recipe(recipe: str | Path, kept_keys: KeptKeys) -> Source:
    """Read a recipe with all that it extends.

    Args:
        recipe: A path, or the name of a recipe that ships with the package.
        kept_keys: Which keys a changed name leaves.

    Raises:
        RecipeError: If a file is missing or is no YAML mapping, or if files extend each other in a circle.
    """
    path = find_recipe(recipe)
    return _merge_chain(path, _chain(path, ()), kept_keys)


def rebase(base: Source, recipe: str | Path, kept_keys: KeptKeys) -> Source:
    """Merge into a base what a recipe changes of its own one: what it and all that it extends set, but for the last.

    A recipe that extends none is itself.

    Raises:
        RecipeError: As :func:`read_recipe`.
    """
    path = find_recipe(recipe)
    *changes, last = _chain(path, ())
    return _merge_chain(path, [*changes, base if changes else last], kept_keys)


def merge_overrides(base: Source, overrides: Sequence[str], kept_keys: KeptKeys) -> Source:
    """Join overrides, strings ``key=value``, and merge them into a recipe.

    Raises:
        RecipeError: If overrides are malformed or contradict each other.
    """
    return _merge(base, _join_overrides(overrides), kept_keys)


def find_recipe(recipe: str | Path) -> Path:
    """Return the path of a recipe: the file itself, or the one that ships with the package under that name.

    Raises:
        RecipeError: If there is neither.
    """
    path = Path(recipe)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    found = shipped.get(str(recipe)) or next((p for p in shipped.values() if p.stem == str(recipe)), None)
    if found is None:
        raise RecipeError(
            [f"{recipe}: no such file, and no recipe of that name ships; {nearest(str(recipe), [*shipped])}"]
        )
    return found


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that ship with the package, by name ("full", "ablations/no_geo")."""
    package = Path(__file__).parent
    # In a wheel the recipes lie in the package, in a clone (and so an editable installation) beside the sources.
    folder = next((folder for folder in (package / "recipes", package.parents[1] / "recipes") if folder.is_dir()), None)
    if folder is None:
        return {}
    paths = sorted(folder.rglob("*.yaml"), key=lambda path: (len(path.parts), path))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def _chain(path: Path, children: tuple[Path, ...]) -> list[Source]:
    """Return what a recipe's file sets itself, then what the one that it extends does, and so on."""
    identity = path.resolve()
    if identity in children:
        circle = " -> ".join(map(str, (*children[children.index(identity) :], identity)))
        raise RecipeError([f"{path}: recipes extend each other in a circle: {circle}"])
    own = _read(path)
    if "extends" not in own.tree:
        return [own]
    named = own.tree.pop("extends")
    if not isinstance(named, str):
        raise RecipeError(
            [f"{own.origins['extends',]}: extends: must be a path or a shipped recipe's name, got {named!r}"]
        )
    beside = Path(os.path.normpath(path.parent / named))
    try:
        base_path = find_recipe(beside if beside.is_file() else named)
    except RecipeError as error:
        raise RecipeError([f"{own.origins['extends',]}: extends: {error}"]) from error
    return [own, *_chain(base_path, (*children, identity))]


def _merge_chain(path: Path, chain: Sequence[Source], kept_keys: KeptKeys) -> Source:
    """Merge a recipe's own file, the first, into what it extends; the name alone is not inherited."""
    own, *bases = chain
    source = Source({}, {})
    for base in reversed(bases):
        nameless = {section: node for section, node in base.tree.items() if section != "name"}
        source = _merge(source, Source(nameless, base.origins), kept_keys)
    source = _merge(source, own, kept_keys)
    return Source({"name": path.stem, **source.tree}, source.origins)


def _read(path: Path) -> Source:
    try:
        with path.open(encoding="utf-8") as file:
            tree, lines = parse(file.read(MAX_CHARACTERS + 1))
    except (OSError, UnicodeDecodeError, StrictYamlError) as error:
        raise RecipeError([f"{path}: {error}"]) from error
    if not isinstance(tree, dict):
        raise RecipeError([f"{path}: a recipe is a mapping of sections, this is {_kind(tree)}"])
    return Source(tree, {(): str(path)} | {key: f"{path}:{line}" for key, line in lines.items()})


def _merge(base: Source, over: Source, kept_keys: KeptKeys) -> Source:
    left = {section: _leave(section, node, over.tree.get(section), kept_keys) for section, node in base.tree.items()}
    origins = {path: place for path, place in base.origins.items() if _is_left(path, left, over.tree)}
    return Source(_merge_mappings(left, over.tree), {**origins, **over.origins})


def _leave(section: str, old: Any, new: Any, kept_keys: KeptKeys) -> Any:
    """Return what a section's new node leaves of its old one for the merge: of one renamed, the kept keys."""
    if not isinstance(old, dict) or not isinstance(new, dict) or not _is_renamed(old, new):
        return old
    kept = kept_keys(section)
    return {key: value for key, value in old.items() if key in kept}


def _is_renamed(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if "name" in new:
        return new["name"] != old.get("name")
    return "name" in old and new.get("train") is not None  # a list of names in the place of one


def _is_left(path: KeyPath, base: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    """Whether a path is still the base's: there, and not below a value that is replaced."""
    for depth, key in enumerate(path, start=1):
        if key not in base or key not in over:
            return key in base
        old, new = base[key], over[key]
        if not (isinstance(old, dict) and isinstance(new, dict)):
            return depth == len(path)
        base, over = old, new
    return True


def _merge_mappings(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge_mappings(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _join_overrides(overrides: Sequence[str]) -> Source:
    joined = Source({}, {})
    problems: list[str] = []
    for override in overrides:
        try:
            keys, value = _parse_override(override)
            _add(joined.tree, keys, value)
        except ValueError as error:
            problems.append(f"{OVERRIDE} {override!r}: {error}")
        else:
            joined.origins[keys] = f"{OVERRIDE} {override!r}"
    if problems:
        raise RecipeError(problems)
    return joined


def _parse_override(override: str) -> tuple[KeyPath, Any]:
    key, separator, text = override.partition("=")
    keys = tuple(key.split("."))
    if not separator or not all(keys):
        raise ValueError("must be key=value, the key dotted, such as losses.cam.weight=0.2")
    if keys[0] == "extends":
        raise ValueError("extends can only be set in a file")
    value = parse(text)[0]
    verbatim = isinstance(value, str) and not text.lstrip().startswith(("'", '"'))
    return keys, text if verbatim else value  # so that a path keeps what YAML would take for a comment


def _add(tree: dict[str, Any], keys: KeyPath, value: Any) -> None:
    key, *rest = keys
    if rest:
        nested: dict[str, Any] = {}
        _add(nested, tuple(rest), value)
        value = nested
    if key not in tree:
        tree[key] = value
    elif isinstance(tree[key], dict) and isinstance(value, dict):
        for inner_key, inner in value.items():
            _add(tree[key], (inner_key,), inner)
    elif tree[key] != value or type(tree[key]) is not type(value):
        raise ValueError(f"contradicts another override, which sets {key} to {tree[key]!r}")


def _kind(value: Any) -> str:
    return "empty" if value is None else f"a {type(value).__name__}"
