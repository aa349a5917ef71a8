"""YAML as recipes use it: plain data, YAML 1.2's scalars, each key once, bounded in size and depth.

PyYAML reads YAML 1.1, where ``2e-4`` is a string, ``no`` is false and ``1:30`` is ninety. Here the scalars are those of
YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema), decimal integers only.
"""

import re
from typing import Any, Final, TypeAlias

import yaml

KeyPath: TypeAlias = tuple[str, ...]

MAX_CHARACTERS: Final = 200_000
MAX_DEPTH: Final = 20
MAX_DIGITS: Final = 400

_SCALARS: Final = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)


class StrictYamlError(ValueError):
    """A text is not YAML as recipes use it; the message begins with the line."""


class _Resolver(yaml.resolver.BaseResolver):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own form


for _tag, _pattern, _first in _SCALARS:
    _Resolver.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), [*_first, *([""] if _tag == "null" else [])]
    )


class _Loader(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer, _Resolver):
    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        _Resolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "anchor", None) is not None:
            raise _error(event, "anchors and aliases are not supported, write the value out")
        if getattr(event, "tag", None) is not None:
            raise _error(event, f"the tag {event.tag!r} is not supported, write plain values")
        if self._depth >= MAX_DEPTH:
            raise _error(event, f"nested more than {MAX_DEPTH} levels deep")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Dumper(yaml.emitter.Emitter, yaml.serializer.Serializer, yaml.representer.SafeRepresenter, _Resolver):
    def __init__(self, stream: Any, **options: Any) -> None:
        yaml.emitter.Emitter.__init__(self, stream, width=options["width"], allow_unicode=True)
        yaml.serializer.Serializer.__init__(self)
        yaml.representer.SafeRepresenter.__init__(self, sort_keys=False)
        _Resolver.__init__(self)

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)


def parse(text: str) -> tuple[Any, dict[KeyPath, int]]:
    """Read one document.

    Returns:
        Its value (of dict, list, str, int, float, bool and None) and the line, from 1, of every mapping's key.

    Raises:
        StrictYamlError: If the text is not such a document, has a key twice, an alias or a tag, or is too large.
    """
    if len(text) > MAX_CHARACTERS:
        raise StrictYamlError(f"longer than {MAX_CHARACTERS} characters")
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise StrictYamlError(f"{where}not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise StrictYamlError(f"not valid YAML: {error}") from error
    lines: dict[KeyPath, int] = {}
    return (None if node is None else _value(node, (), lines)), lines


def dump(data: Any) -> str:
    """Write plain data so that :func:`parse` reads it back, mappings in their order and lists on one line."""
    return yaml.dump(data, Dumper=_Dumper, width=100)


def _value(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, str(index)), lines) for index, item in enumerate(node.value)]
    return _scalar(node)


def _mapping(node: yaml.MappingNode, path: KeyPath, lines: dict[KeyPath, int]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _error(key_node, "a key must be a plain name")
        key = key_node.value
        if key in mapping:
            raise _error(key_node, f"the key {key!r} is there twice, the first time on line {lines[*path, key]}")
        lines[*path, key] = key_node.start_mark.line + 1
        mapping[key] = _value(value_node, (*path, key), lines)
    return mapping


def _scalar(node: yaml.Node) -> Any:
    text, kind = node.value, node.tag.removeprefix("tag:yaml.org,2002:")
    if kind in ("int", "float") and len(text) > MAX_DIGITS:
        raise _error(node, f"a number of more than {MAX_DIGITS} characters")
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        case _:
            return text


def _error(place: Any, message: str) -> StrictYamlError:
    return StrictYamlError(f"line {place.start_mark.line + 1}: {message}")
