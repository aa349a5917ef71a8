"""Arguments checked against constructors' signatures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from torch import Tensor

from hamr_lightning.arguments import check_arguments, parameters


@dataclass(frozen=True)
class Range:
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self):
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, got {self.low} > {self.high}")


class Base:
    def __init__(self, weight: float = 1.0) -> None: ...


class Own(Base):
    def __init__(
        self,
        size: int,
        mode: Literal["mesh", "chain"] = "mesh",
        flag: bool = False,
        pair: tuple[float, float] = (0.0, 1.0),
        where: str | Path | None = None,
        span: Range | dict[str, Any] | None = None,
        tensor: Tensor | None = None,
        anything=None,
        **rest: float,
    ) -> None: ...


class WithoutConstructor(Base):
    pass


def test_keyword_arguments_passed_on_are_the_base_classes():
    assert list(parameters(Own))[-1] == "weight"
    assert list(parameters(WithoutConstructor)) == ["weight"]
    assert [name for name, parameter in parameters(Own).items() if parameter.required] == ["size"]


@pytest.mark.parametrize(
    ("name", "given", "converted"),
    [
        ("weight", 3, 3.0),
        ("weight", 2e-4, 2e-4),
        ("mode", "chain", "chain"),
        ("flag", True, True),
        ("pair", [1, 2], (1.0, 2.0)),
        ("where", "null", "null"),
        ("where", "12", "12"),
        ("where", None, None),
        ("span", {"low": 0, "high": 2}, Range(0.0, 2.0)),
        ("span", None, None),
        ("anything", [1, "x"], [1, "x"]),
    ],
)
def test_what_fits_is_converted(name, given, converted):
    arguments, problems = check_arguments(Own, {"size": 1, name: given})
    assert not problems
    assert arguments == {"size": 1, name: converted}
    assert type(arguments[name]) is type(converted)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("size", True, "must be int, got True"),
        ("size", 1.5, "must be int, got 1.5"),
        ("size", None, "must be int, got None"),
        ("weight", "x", "must be float, got 'x'"),
        ("weight", True, "must be float, got True"),
        ("flag", 1, "must be true or false, got 1"),
        ("mode", "mehs", "must be 'mesh' or 'chain', got 'mehs'"),
        ("pair", [1], "must be tuple[float, float], got [1]"),
        ("where", 12, "must be str or Path or null, got 12"),
        ("tensor", "os.path", "takes an object, which a recipe cannot give; remove it"),
        ("span", {"low": 3}, "low must not exceed high, got 3.0 > 1.0"),
        ("wieght", 1, "Own takes no such argument; did you mean 'weight'?"),
    ],
)
def test_what_does_not_fit_is_named(name, given, message):
    _, problems = check_arguments(Own, {"size": 1} | {name: given}, path=("section",))
    (problem,) = problems
    assert problem.path == ("section", name)
    assert problem.message.startswith(message)


def test_all_problems_come_at_once():
    _, problems = check_arguments(
        Own, {"flag": 3, "span": {"lwo": 1, "high": "x"}, "mode": "mesh", "other": 1}, ("mode",)
    )
    assert [problem.path for problem in problems] == [
        ("flag",), ("span", "lwo"), ("span", "high"), ("mode",), ("other",), ("size",)
    ]  # fmt: skip


def test_a_value_can_not_make_it_import_anything(tmp_path, monkeypatch):
    marker = tmp_path / "imported"
    (tmp_path / "hostile.py").write_text(f"open({str(marker)!r}, 'w')\nclass Trap: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    for value in ("hostile.Trap", {"class_path": "hostile.Trap"}, {"class_path": "hostile.Trap", "init_args": {}}):
        for name in parameters(Own):
            check_arguments(Own, {name: value})
    assert not marker.exists()
