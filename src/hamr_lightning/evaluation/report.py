"""The files that an evaluation leaves, and the published curves that its plots may hold beside.

==========================  ==========================================================================
``metrics.json``            the protocol's figures; it is there if all the others are
``samples.csv``             each sample's errors, a column for each measure
``curves.csv``              the curves of the plots, as :func:`read_curves` takes them
``figures/pck_3d.png``      the share of joints within each threshold, and ``pck_2d.png`` in the image
``figures/worst.png``       the samples with the largest errors as predicted, and ``best.png``
``pred.json``               what the official scorer takes, of a protocol that has one
==========================  ==========================================================================
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from hamr_lightning.atomic import written_whole
from hamr_lightning.errors import UserError
from hamr_lightning.evaluation.evaluate import Evaluation, Sample
from hamr_lightning.evaluation.protocols import PLOTS, Joints, Vertices
from hamr_lightning.figures import plot_pck, prediction_sheet, save_png

Curve: TypeAlias = tuple[Float[np.ndarray, "t"], Float[np.ndarray, "t"]]

THIS: Final = "this model"
"""The method that an evaluation's own curves are of."""

_COLUMNS: Final = ("method", "threshold", "pck")
_TITLE_LENGTH: Final = 48
_DECIMALS: Final = 7
"""Of the numbers for the scorers: a tenth of a micrometre."""


class CurvesError(UserError):
    """A file of published curves cannot be read."""


def write_report(
    evaluation: Evaluation,
    folder: Path,
    faces: Int[Tensor, "f 3"] | None,
    published: Mapping[str, Mapping[str, Curve]] | None = None,
) -> None:
    """Write an evaluation's files.

    Args:
        evaluation: What to write.
        folder: Where to, made if need be; the files of an earlier evaluation are removed.
        faces: The mesh's triangles, to draw it; None for a model without a mesh.
        published: Curves of other methods, by plot and method.
    """
    _remove_report(folder)
    figures = folder / "figures"
    _write_samples(evaluation, folder / "samples.csv")
    drawn = evaluation.curves()
    write_curves({name: {THIS: curve} for name, (_, curve) in drawn.items()}, folder / "curves.csv")
    for name, (plot, curve) in drawn.items():
        plot_pck({THIS: curve, **(published or {}).get(name, {})}, plot.title, plot.unit, figures / f"{name}.png")
    for name, samples in (("worst", evaluation.worst), ("best", evaluation.best)):
        if samples:
            rows = [_row(sample, evaluation.ranked_by, faces) for sample in samples]
            save_png(np.vstack(rows), figures / f"{name}.png")
    if evaluation.predicted is not None:
        _write_predicted(evaluation.predicted, folder / "pred.json")
    summary = {
        "protocol": evaluation.protocol.name,
        "samples": len(evaluation.sources),
        "skipped": list(evaluation.skipped),
        **evaluation.figures(),
    }
    with written_whole(folder / "metrics.json") as file:
        file.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def read_figures(folder: Path) -> dict[str, float]:
    """Return the figures of a report."""
    summary = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {key: value for key, value in summary.items() if isinstance(value, float)}


def write_curves(curves: Mapping[str, Mapping[str, Curve]], path: Path) -> None:
    """Write curves, by plot and method, as :func:`read_curves` reads them."""
    rows = [
        [plot, method, f"{threshold:.6g}", f"{share:.6g}"]
        for plot, methods in curves.items()
        for method, curve in methods.items()
        for threshold, share in zip(*curve, strict=True)
    ]
    write_table([["plot", *_COLUMNS], *rows], path)


def write_table(rows: Sequence[Sequence[str]], path: Path) -> None:
    """Write a CSV file, whole or not at all."""
    with written_whole(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def read_curves(path: Path) -> dict[str, dict[str, dict[str, Curve]]]:
    """Read published curves from a CSV file with columns ``method``, ``threshold`` and ``pck``.

    A column ``plot`` says which plot a line belongs to, by default ``pck_3d``; a column ``set`` which data set, by
    default (an empty field) all. Thresholds are in millimetres or pixels, ``pck`` is a share in [0, 1].

    Returns:
        Curves by data set ("" for all), plot and method, their thresholds increasing.

    Raises:
        CurvesError: If the file is missing, lacks a column or has a line that cannot be drawn, which is named; or a
            curve has a single point.
    """
    if not path.is_file():
        raise CurvesError(f"{path}: no such file of curves")
    points: dict[tuple[str, str, str], dict[float, float]] = {}
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            missing = [column for column in _COLUMNS if column not in (reader.fieldnames or [])]
            if missing:
                raise CurvesError(f"{path}: has no column {', '.join(missing)}; it needs {', '.join(_COLUMNS)}")
            for row in reader:
                _add_point(points, row, f"{path}:{reader.line_num}")
        except csv.Error as error:
            raise CurvesError(f"{path}:{reader.reader.line_num}: is no CSV: {error}") from error
    curves: dict[str, dict[str, dict[str, Curve]]] = {}
    for (data_set, plot, method), values in points.items():
        if len(values) < 2:
            raise CurvesError(f"{path}: the curve of {method!r} has a single point, at least 2 make one")
        thresholds, pck = np.array(sorted(values.items())).T
        curves.setdefault(data_set, {}).setdefault(plot, {})[method] = thresholds, pck
    return curves


def curves_of(curves: Mapping[str, Mapping[str, Mapping[str, Curve]]], data_set: str) -> dict[str, dict[str, Curve]]:
    """Return the curves for a data set, by plot and method: its own and those for all."""
    found: dict[str, dict[str, Curve]] = {}
    for name in ("", data_set):
        for plot, methods in curves.get(name, {}).items():
            found.setdefault(plot, {}).update(methods)
    return found


def _add_point(points: dict[tuple[str, str, str], dict[float, float]], row: Mapping[str, str], place: str) -> None:
    plot, method, data_set = row.get("plot") or "pck_3d", row["method"], row.get("set") or ""
    if plot not in PLOTS:
        raise CurvesError(f"{place}: plot must be one of {', '.join(PLOTS)}, got {plot!r}")
    if not method:
        raise CurvesError(f"{place}: method is empty; it names the curve")
    try:
        threshold, pck = float(row["threshold"]), float(row["pck"])
    except (TypeError, ValueError):
        threshold = pck = math.nan
    if not (math.isfinite(threshold) and 0 <= pck <= 1):
        raise CurvesError(
            f"{place}: threshold must be a number and pck one in [0, 1], got {row['threshold']!r} and {row['pck']!r}"
        )
    curve = points.setdefault((data_set, plot, method), {})
    if threshold in curve:
        raise CurvesError(f"{place}: {method!r} has a second value at {threshold:g}")
    curve[threshold] = pck


def _remove_report(folder: Path) -> None:
    pictures = (f"figures/{name}.png" for name in (*PLOTS, "worst", "best"))
    for name in ("metrics.json", "pred.json", *pictures):
        folder.joinpath(name).unlink(missing_ok=True)


def _write_samples(evaluation: Evaluation, path: Path) -> None:
    errors = evaluation.errors()
    rows = [
        [source, *("" if math.isnan(value) else f"{value:.6g}" for value in values)]
        for source, *values in zip(evaluation.sources, *errors.values(), strict=True)
    ]
    write_table([["source", *errors], *rows], path)


def _write_predicted(predicted: tuple[Joints, Vertices], path: Path) -> None:
    # Hand by hand: HO-3D's 16 million points as Python's numbers would take gigabytes.
    with written_whole(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for opening, points in zip(("[[", ", ["), predicted, strict=True):
            file.write(opening)
            for number, hand in enumerate(points):
                file.write(", " * bool(number) + json.dumps(hand.astype(np.float64).round(_DECIMALS).tolist()))
            file.write("]")
        file.write("]")


def _row(sample: Sample, measure: str, faces: Int[Tensor, "f 3"] | None) -> np.ndarray:
    source = " ".join(sample.batch.sources)
    shown = source if len(source) <= _TITLE_LENGTH else f"...{source[-_TITLE_LENGTH:]}"
    title = f"{measure} {sample.error:.4g}   {shown}"
    return prediction_sheet(sample.batch, sample.prediction, faces, count=1, title=title)
