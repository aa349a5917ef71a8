"""One pass over a data set: every measure of a protocol, of every sample."""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float

from hamr_lightning.errors import UserError
from hamr_lightning.evaluation.measures import MEASURES
from hamr_lightning.evaluation.protocols import Plot, Protocol
from hamr_lightning.skeleton import ROOT
from hamr_lightning.types import HandBatch, HandPrediction

EXTREMES: Final = 8
"""How many of the worst and of the best samples are kept to be drawn."""


@dataclass(frozen=True, order=True)
class Sample:
    """A sample as predicted, and its error by the protocol's first measure that its annotation allows."""

    error: float
    number: int
    batch: HandBatch = field(compare=False)
    prediction: HandPrediction = field(compare=False)


@dataclass(frozen=True)
class Evaluation:
    """What a protocol says of a model on one data set."""

    protocol: Protocol
    sources: Sequence[str]
    """Where each sample came from."""
    skipped: Sequence[str]
    """What was wrong with each sample that could not be read."""
    values: Mapping[str, Float[np.ndarray, "n points"]]
    """Every measure that any sample has the annotation for, of every sample."""
    counts: Mapping[str, Bool[np.ndarray, "n points"]]
    """Which of them count."""
    worst: Sequence[Sample]
    """The worst first, by :attr:`ranked_by`."""
    best: Sequence[Sample]
    ranked_by: str
    """The measure, empty if there was none."""
    joints: Float[np.ndarray, "n 21 3"]
    """The predictions in the source image's camera, metres, at the annotated root; relative to the root if none is."""
    vertices: Float[np.ndarray, "n v 3"]

    def figures(self) -> dict[str, float]:
        """Return the protocol's figures, those for which there was annotation."""
        return {
            name: figure.summary(self.values[figure.measure][self.counts[figure.measure]])
            for name, figure in self.protocol.figures.items()
            if figure.measure in self.values
        }

    def curves(self) -> dict[str, tuple[Plot, tuple[Float[np.ndarray, "t"], Float[np.ndarray, "t"]]]]:
        """Return the protocol's plots that there is annotation for, with thresholds and PCK."""
        drawn = {}
        for name, plot in self.protocol.plots.items():
            measure = next((measure for measure in plot.measures if measure in self.values), None)
            if measure is not None:
                drawn[name] = plot, plot.curve(self.values[measure][self.counts[measure]])
        return drawn

    def errors(self) -> dict[str, Float[np.ndarray, "n"]]:
        """Return each measure's mean over the points of each sample; NaN where none counts."""
        means = {}
        for name, values in self.values.items():
            counts = self.counts[name]
            total = np.where(counts, values, 0).sum(axis=1, dtype=np.float64)
            means[name] = np.divide(
                total, counts.sum(axis=1), out=np.full(len(values), np.nan), where=counts.any(axis=1)
            )
        return means


@torch.no_grad()
def evaluate(
    predict: Callable[[HandBatch], HandPrediction], batches: Iterable[HandBatch], protocol: Protocol
) -> Evaluation:
    """Measure predictions by a protocol.

    Args:
        predict: Makes the predictions for a batch, on the batch's device.
        batches: The data; crops must not be turned, as those of validation are not.
        protocol: What to measure.

    Raises:
        UserError: If there is no batch, or a prediction is not finite.
    """
    measured: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in protocol.measures()}
    extremes = _Extremes()
    sources: list[str] = []
    skipped: list[str] = []
    joints, vertices = [], []
    for batch in batches:
        skipped += batch.skipped
        if not len(batch):
            continue
        prediction = predict(batch)
        for name, results in measured.items():
            values, counts = MEASURES[name](prediction, batch)
            results.append((_array(values), _array(counts)))
        extremes.add(batch, prediction, {name: results[-1] for name, results in measured.items()}, len(sources))
        sources += batch.sources
        joints.append(_in_source_camera(prediction.joints_3d, batch))
        vertices.append(_in_source_camera(prediction.vertices, batch))
    if not joints:
        raise UserError("there is no sample to evaluate")
    known = {name: _joined(results) for name, results in measured.items()}
    known = {name: results for name, results in known.items() if results[1].any()}
    return Evaluation(
        protocol=protocol,
        sources=sources,
        skipped=skipped,
        values={name: values for name, (values, _) in known.items()},
        counts={name: counts for name, (_, counts) in known.items()},
        worst=extremes.worst(),
        best=extremes.best(),
        ranked_by=extremes.measure,
        joints=np.concatenate(joints),
        vertices=np.concatenate(vertices),
    )


class _Extremes:
    """Keeps the worst and the best samples of a stream."""

    def __init__(self) -> None:
        self.measure = ""
        self._worst: list[Sample] = []
        self._best: list[tuple[float, int, Sample]] = []

    def add(
        self,
        batch: HandBatch,
        prediction: HandPrediction,
        measured: Mapping[str, tuple[np.ndarray, np.ndarray]],
        first: int,
    ) -> None:
        self.measure = self.measure or next((name for name, (_, counts) in measured.items() if counts.any()), "")
        if not self.measure:
            return
        values, counts = measured[self.measure]
        for row in np.flatnonzero(counts.any(axis=1)).tolist():
            error = float(values[row][counts[row]].mean())
            if self._takes(error):
                only = slice(row, row + 1)
                sample = Sample(error, first + row, _pick(batch, only), _pick_prediction(prediction, only))
                _keep(self._worst, sample)
                _keep(self._best, (-error, -sample.number, sample))

    def worst(self) -> list[Sample]:
        return sorted(self._worst, reverse=True)

    def best(self) -> list[Sample]:
        return [sample for *_, sample in sorted(self._best, reverse=True)]

    def _takes(self, error: float) -> bool:
        full = len(self._worst) == EXTREMES
        return not full or error > self._worst[0].error or error < -self._best[0][0]


def _keep(heap: list, item: Sample | tuple[float, int, Sample]) -> None:
    heapq.heappush(heap, item)
    if len(heap) > EXTREMES:
        heapq.heappop(heap)


def _pick(batch: HandBatch, only: slice) -> HandBatch:
    return replace(batch.map(lambda tensor: tensor[only].cpu()), sources=batch.sources[only], skipped=())


def _pick_prediction(prediction: HandPrediction, only: slice) -> HandPrediction:
    return prediction.map(lambda tensor: tensor[only].cpu())


def _in_source_camera(points: Float[torch.Tensor, "b n 3"], batch: HandBatch) -> Float[np.ndarray, "b n 3"]:
    """Move points that are relative to the root to the annotated root, and mirror left hands back."""
    if batch.joints_camera is not None:
        has_root = batch.validity("joints_camera")[:, ROOT, None, None]
        points = points + torch.where(has_root, batch.joints_camera[:, [ROOT]], 0)
    if batch.mirrored is not None:
        points = torch.where(batch.mirrored[:, None, None], points * points.new_tensor([-1, 1, 1]), points)
    return _array(points)


def _joined(results: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Join batches of a measure; one without annotation has a single column that does not count."""
    points = max(values.shape[1] for values, _ in results)
    widened = [
        [np.pad(part, ((0, 0), (0, points - part.shape[1]))) for part in (values, counts)] for values, counts in results
    ]
    return np.concatenate([values for values, _ in widened]), np.concatenate([counts for _, counts in widened])


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
