"""An ablation study: recipes that differ in one thing each, trained and evaluated alike (paper, Figure 8).

Each recipe's training and evaluation is a process of its own, so that none takes the others along when it fails. The
study's folder holds a run's folder for each recipe, ``recipes/``, and in the end ``ablation.csv`` and ``figures/``, the
protocol's plots for each data set with a curve for each recipe.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hamr_lightning.atomic import written_whole
from hamr_lightning.errors import UserError
from hamr_lightning.evaluation.protocols import PROTOCOLS
from hamr_lightning.evaluation.report import THIS, Curve, read_curves, read_figures, write_table
from hamr_lightning.figures import plot_pck
from hamr_lightning.recipe import Recipe
from hamr_lightning.runs import LAST, RECIPE

TABLE: Final = "ablation.csv"
_SAME: Final = ("seed", "data")
_SIGNALLED: Final = 128
_STOPS: Final = (signal.SIGINT, signal.SIGTERM)


class AblationError(UserError):
    """Recipes cannot be compared, or a folder holds another study."""


class Interrupted(Exception):  # noqa: N818 - no error
    """A signal has stopped a training, whose state is saved, or an evaluation."""

    def __init__(self, status: int) -> None:
        super().__init__(f"stopped with status {status}; the same command goes on")
        self.status = status


@dataclass(frozen=True)
class Result:
    """What became of one recipe."""

    name: str
    reports: Mapping[str, Path]
    """The folders of the evaluation's reports, by data set; empty if something failed."""
    failure: str
    """What failed; empty if nothing did."""

    def figures(self, data_set: str) -> dict[str, float]:
        """Return the protocol's figures on a data set."""
        return read_figures(self.reports[data_set])

    def curve(self, data_set: str, plot: str) -> Curve | None:
        """Return thresholds and PCK of a plot, None if the data set lacks the annotation for it."""
        return read_curves(self.reports[data_set] / "curves.csv").get("", {}).get(plot, {}).get(THIS)


def ablate(recipes: Sequence[Recipe], folder: Path, protocol: str) -> list[Result]:
    """Train and evaluate recipes one after the other, or find them trained; write the table and the plots.

    A recipe that fails is reported, and the others go on. Interrupted, the study goes on where it stopped.

    Args:
        recipes: With the same seed and data.
        folder: The study's folder.
        protocol: A name of :data:`hamr_lightning.evaluation.PROTOCOLS`.

    Returns:
        What became of each, in their order.

    Raises:
        AblationError: If the recipes cannot be compared, or the folder holds runs of other recipes.
        Interrupted: If SIGINT or SIGTERM has stopped it.
    """
    _check(recipes, folder)
    results = [_run(recipe, folder, protocol) for recipe in recipes]
    _write_table(results, protocol, folder / TABLE)
    _write_plots(results, folder, protocol)
    return results


def _check(recipes: Sequence[Recipe], folder: Path) -> None:
    names = [recipe.name for recipe in recipes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AblationError(f"recipes must have different names, but there are several named {', '.join(twice)}")
    first, *others = recipes
    for recipe in others:
        for section in _SAME:
            if recipe.to_dict()[section] != first.to_dict()[section]:
                raise AblationError(
                    f"recipe {recipe.name}: its {section} is not that of {first.name}; an ablation compares what was "
                    "trained on the same data with the same seed"
                )
        if recipe.data_hand != first.data_hand:
            raise AblationError(
                f"recipe {recipe.name}: its decoder has another hand than that of {first.name}, and so has data that "
                "takes it from there; name the data's hand, such as --data.hand PATH"
            )
    if folder.exists() and not folder.is_dir():
        raise AblationError(f"{folder}: is a file, give a folder for the study")
    for recipe in recipes:
        trained = folder / recipe.name / RECIPE
        if trained.is_file() and trained.read_text(encoding="utf-8") != recipe.to_yaml():
            raise AblationError(f"{trained}: is of another recipe than is asked for now; give another folder")


def _run(recipe: Recipe, folder: Path, protocol: str) -> Result:
    run = folder / recipe.name
    written = folder / "recipes" / f"{recipe.name}.yaml"
    with written_whole(written) as file:
        file.write_text(recipe.to_yaml(), encoding="utf-8")
    evaluation = run / "evaluation" / f"{LAST.stem}_{protocol}"
    reports = {name: evaluation / name for name in recipe.set_names("test")}
    steps: dict[str, tuple[list[Path], list[str | Path]]] = {
        "training": ([run / "metrics.json"], ["fit", "--recipe", written, "--output", run, "--resume", "auto"]),
        "evaluation": (
            [report / "metrics.json" for report in reports.values()],
            ["evaluate", "--checkpoint", run / LAST, "--protocol", protocol, "--output", evaluation],
        ),
    }
    for step, (results, command) in steps.items():
        if not all(result.is_file() for result in results):
            print(f"{recipe.name}: {step}", flush=True)
            status = _call(command)
            if status:
                return Result(recipe.name, {}, f"{step} failed with status {status}")
    return Result(recipe.name, reports, "")


def _call(command: Sequence[str | Path]) -> int:
    """Run one of the package's commands to its end, also when a signal asks it to save and stop."""
    name, *arguments = map(str, command)
    process = subprocess.Popen([sys.executable, "-m", f"hamr_lightning.cli.{name}", *arguments])
    with _left_to(process):
        status = process.wait()
    if -status in _STOPS:  # so early that the command could not answer
        status = _SIGNALLED - status
    if status - _SIGNALLED in _STOPS:
        raise Interrupted(status)
    return status


@contextmanager
def _left_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave SIGINT, which a terminal sends to both, to another process, and pass SIGTERM on to it."""
    during = {signal.SIGINT: lambda *_: None, signal.SIGTERM: lambda *_: process.terminate()}
    before = {signum: signal.signal(signum, handler) for signum, handler in during.items()}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _write_table(results: Sequence[Result], protocol: str, path: Path) -> None:
    keys = list(PROTOCOLS[protocol].figures)
    rows = [["recipe", "set", *keys, "failure"]]
    for result in results:
        if result.failure:
            rows.append([result.name, "", *[""] * len(keys), result.failure])
        for name in result.reports:
            figures = result.figures(name)
            rows.append([result.name, name, *(f"{figures[key]:.6g}" if key in figures else "" for key in keys), ""])
    write_table(rows, path)


def _write_plots(results: Sequence[Result], folder: Path, protocol: str) -> None:
    for name in dict.fromkeys(name for result in results for name in result.reports):
        for key, plot in PROTOCOLS[protocol].plots.items():
            found = {result.name: result.curve(name, key) for result in results if name in result.reports}
            curves = {recipe: curve for recipe, curve in found.items() if curve is not None}
            if curves:
                plot_pck(curves, f"{plot.title}, {name}", plot.unit, folder / "figures" / f"{name}_{key}.png")
