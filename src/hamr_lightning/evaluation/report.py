"""The files that an evaluation leaves, and the published curves that its plots may hold beside.

==========================  ==========================================================================
``metrics.json``            the protocol's figures, written last
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
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from hamr_lightning.errors import UserError
from hamr_lightning.evaluation.evaluate import Evaluation, Sample
from hamr_lightning.figures import plot_pck, prediction_sheet, save_png

Curve: TypeAlias = tuple[Float[np.ndarray, "t"], Float[np.ndarray, "t"]]

_COLUMNS: Final = ("method", "threshold", "pck")


THIS: Final = "this model"
"""The method that an evaluation's own curves are of."""


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
        folder: Where to, made if need be; files of an earlier evaluation are replaced.
        faces: The mesh's triangles, to draw it; None for a model without a mesh.
        published: Curves of other methods, by plot and method.
    """
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    _write_samples(evaluation, folder / "samples.csv")
    drawn = evaluation.curves()
    write_curves({name: {THIS: curve} for name, (_, curve) in drawn.items()}, folder / "curves.csv")
    for name, (plot, curve) in drawn.items():
        plot_pck({THIS: curve, **(published or {}).get(name, {})}, plot.title, plot.unit, figures / f"{name}.png")
    for name, samples in (("worst", evaluation.worst), ("best", evaluation.best)):
        if samples:
            save_png(
                np.vstack([_row(sample, evaluation.ranked_by, faces) for sample in samples]), figures / f"{name}.png"
            )
    if evaluation.protocol.to_scorer is not None:
        predicted = evaluation.protocol.to_scorer(evaluation.joints, evaluation.vertices)
        folder.joinpath("pred.json").write_text(json.dumps([points.tolist() for points in predicted]), encoding="utf-8")
    summary = {
        "protocol": evaluation.protocol.name,
        "samples": len(evaluation.sources),
        "skipped": list(evaluation.skipped),
        **evaluation.figures(),
    }
    folder.joinpath("metrics.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def write_curves(curves: Mapping[str, Mapping[str, Curve]], path: Path) -> None:
    """Write curves, by plot and method, as :func:`read_curves` reads them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["plot", *_COLUMNS])
        for plot, methods in curves.items():
            for method, curve in methods.items():
                writer.writerows([plot, method, f"{at:.6g}", f"{share:.6g}"] for at, share in zip(*curve, strict=True))


def read_curves(path: Path) -> dict[str, dict[str, dict[str, Curve]]]:
    """Read published curves from a CSV file with columns ``method``, ``threshold`` and ``pck``.

    A column ``plot`` says which plot a line belongs to, by default ``pck_3d``; a column ``set`` which data set, by
    default (an empty field) all.

    Returns:
        Curves by data set ("" for all), plot and method.

    Raises:
        CurvesError: If the file is missing, lacks a column or holds what is no number; the message names the line.
    """
    if not path.is_file():
        raise CurvesError(f"{path}: no such file of curves")
    points: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [column for column in _COLUMNS if column not in (reader.fieldnames or [])]
        if missing:
            raise CurvesError(f"{path}: has no column {', '.join(missing)}; it needs {', '.join(_COLUMNS)}")
        for row in reader:
            place = row.get("set") or "", row.get("plot") or "pck_3d", row["method"]
            points.setdefault(place, []).append(_point(row, f"{path}:{reader.line_num}"))
    curves: dict[str, dict[str, dict[str, Curve]]] = {}
    for (data_set, plot, method), values in points.items():
        thresholds, pck = np.array(sorted(values)).T
        curves.setdefault(data_set, {}).setdefault(plot, {})[method] = thresholds, pck
    return curves


def curves_of(curves: Mapping[str, Mapping[str, Mapping[str, Curve]]], data_set: str) -> dict[str, dict[str, Curve]]:
    """Return the curves for a data set, by plot and method: its own and those for all."""
    found: dict[str, dict[str, Curve]] = {}
    for name in ("", data_set):
        for plot, methods in curves.get(name, {}).items():
            found.setdefault(plot, {}).update(methods)
    return found


def _point(row: Mapping[str, str], place: str) -> tuple[float, float]:
    try:
        threshold, pck = float(row["threshold"]), float(row["pck"])
    except (TypeError, ValueError):
        threshold = pck = math.nan
    if not (math.isfinite(threshold) and 0 <= pck <= 1):
        raise CurvesError(
            f"{place}: threshold must be a number and pck one in [0, 1], got {row['threshold']!r} and {row['pck']!r}"
        )
    return threshold, pck


def _write_samples(evaluation: Evaluation, path: Path) -> None:
    errors = evaluation.errors()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["source", *errors])
        for number, source in enumerate(evaluation.sources):
            values = [values[number] for values in errors.values()]
            writer.writerow([source, *("" if math.isnan(value) else f"{value:.6g}" for value in values)])


def _row(sample: Sample, measure: str, faces: Int[Tensor, "f 3"] | None) -> np.ndarray:
    title = f"{measure} {sample.error:.4g}   {' '.join(sample.batch.sources)}"
    return prediction_sheet(sample.batch, sample.prediction, faces, count=1, title=title)
