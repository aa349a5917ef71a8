"""YAML as recipes use it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hamr_lightning.strict_yaml import MAX_CHARACTERS, MAX_DEPTH, StrictYamlError, dump, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("1e-05", 1e-5),
        ("1E5", 1e5),
        ("-.5", -0.5),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("# nothing", None),
        ("no", "no"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x1f", "0x1f"),
        ("2026-11-23", "2026-11-23"),
        ("'2e-4'", "2e-4"),
        ("[1, a, 2.5]", [1, "a", 2.5]),
        ("{a: {b: null}}", {"a": {"b": None}}),
        ("1: 2", {"1": 2}),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    parsed, _ = parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_nan_is_read():
    assert math.isnan(parse(".nan")[0])


def test_every_key_has_its_line():
    _, lines = parse("a: 1\nb:\n  c: 2\n\n  d: {e: 3}\n")
    assert lines == {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "d"): 5, ("b", "d", "e"): 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"line 3: the key 'a' is there twice, the first time on line 1"),
        ("a: &x [1]\nb: *x", r"line 1: anchors and aliases are not supported"),
        ("a: *x", r"line 1: anchors and aliases are not supported"),
        ("a: !!python/object/apply:os.system [ls]", r"line 1: the tag '.*os\.system' is not supported"),
        ("a: !!int x", r"the tag"),
        ("!own {}", r"the tag '!own'"),
        ("? [1]\n: 2", r"line 1: a key must be a plain name"),
        ("a: {b: 1", r"line 1: not valid YAML"),
        ("a: 1\n b: 2", r"line 2: not valid YAML"),
        ("a: 1\n---\nb: 1", r"line 2: not valid YAML"),
        ("a: \0", r"not valid YAML"),
        ("a: " + "9" * 5000, r"a number of more than"),
        ("[" * 5000, rf"nested more than {MAX_DEPTH} levels"),
        ("{a: " * 5000, rf"nested more than {MAX_DEPTH} levels"),
        ("a" * (MAX_CHARACTERS + 1), r"longer than"),
    ],
)
def test_everything_else_is_refused(text, message):
    with pytest.raises(StrictYamlError, match=message):
        parse(text)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
    | st.sampled_from(["2e-4", "1e5", "no", "null", "~", "", "12", "- a", "a: b", "#", "&a", "!x", "'", "1.0", ".inf"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc") | st.just("2e-4"), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(plain)
def test_what_is_written_is_read_back(value):
    assert parse(dump(value))[0] == value
