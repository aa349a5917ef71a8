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
from hamr_lightning.evaluation.protocols import Joints, Plot, Protocol, Vertices
from hamr_lightning.skeleton import ROOT
from hamr_lightning.types import HandBatch, HandPrediction

EXTREMES: Final = 8
"""How many of the worst and of the best samples are kept to be drawn."""


@dataclass(frozen=True, order=True)
class Sample:
    """A sample as predicted, and its mean error by :attr:`Evaluation.ranked_by`."""

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
    ranked_by: str
    """The measure by which samples are the worst and the best: the plots' first that is known; empty if none is."""
    worst: Sequence[Sample]
    """The worst first."""
    best: Sequence[Sample]
    """The best first."""
    predicted: tuple[Joints, Vertices] | None
    """Joints and vertices as the official scorer takes them, None if the protocol has no scorer.

    Metres; points relative to the root are placed at the annotated one, if it is known.
    """

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
        return {name: _sample_means(values, self.counts[name]) for name, values in self.values.items()}


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
        UserError: If there is no sample, or a prediction is not finite.
    """
    measured: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in protocol.measures()}
    extremes = _Extremes(protocol.ranking())
    sources: list[str] = []
    skipped: list[str] = []
    placed: list[tuple[np.ndarray, np.ndarray]] = []
    for batch in batches:
        skipped += batch.skipped
        if not len(batch):
            continue
        prediction = predict(batch)
        for name, results in measured.items():
            values, counts = MEASURES[name](prediction, batch)
            results.append((_array(values), _array(counts)))
        extremes.add(batch, prediction, {name: results[-1] for name, results in measured.items()}, len(sources))
        sources += batch.sources or [""] * len(batch)
        if protocol.to_scorer is not None:
            joints, vertices = (_in_source_camera(p, batch) for p in (prediction.joints_3d, prediction.vertices))
            placed.append(protocol.to_scorer(joints, vertices))
    if not sources:
        raise UserError(f"there is no sample to evaluate; {len(skipped)} could not be read")
    known = {name: _joined(results) for name, results in measured.items()}
    known = {name: (values, counts) for name, (values, counts) in known.items() if counts.any()}
    return Evaluation(
        protocol=protocol,
        sources=sources,
        skipped=skipped,
        values={name: values for name, (values, _) in known.items()},
        counts={name: counts for name, (_, counts) in known.items()},
        ranked_by=extremes.measure,
        worst=extremes.worst(),
        best=extremes.best(),
        predicted=(np.concatenate([j for j, _ in placed]), np.concatenate([v for _, v in placed])) if placed else None,
    )


class _Extremes:
    """Keeps the worst and the best samples of a stream, by the first of some measures that any sample has."""

    def __init__(self, ranking: Sequence[str]) -> None:
        self.measure = ""
        self._ranking = ranking
        self._worst: list[Sample] = []
        self._best: list[tuple[float, int, Sample]] = []

    def add(
        self,
        batch: HandBatch,
        prediction: HandPrediction,
        measured: Mapping[str, tuple[np.ndarray, np.ndarray]],
        first: int,
    ) -> None:
        preferred = self._ranking[: self._ranking.index(self.measure)] if self.measure else self._ranking
        found = next((measure for measure in preferred if measured[measure][1].any()), "")
        if found:  # no sample so far has it
            self.measure, self._worst, self._best = found, [], []
        if not self.measure:
            return
        for row, error in enumerate(_sample_means(*measured[self.measure]).tolist()):
            if self._takes(error):
                sample = Sample(error, first + row, *_copies(batch, prediction, row))
                _keep(self._worst, sample)
                _keep(self._best, (-error, -sample.number, sample))

    def worst(self) -> list[Sample]:
        return sorted(self._worst, reverse=True)

    def best(self) -> list[Sample]:
        return [sample for *_, sample in sorted(self._best, reverse=True)]

    def _takes(self, error: float) -> bool:
        """Whether there is room for a sample, or it is among the extremes; never if its error is NaN."""
        if len(self._worst) < EXTREMES:
            return not np.isnan(error)
        return error > self._worst[0].error or error < -self._best[0][0]


def _keep(heap: list, item: Sample | tuple[float, int, Sample]) -> None:
    heapq.heappush(heap, item)
    if len(heap) > EXTREMES:
        heapq.heappop(heap)


def _copies(batch: HandBatch, prediction: HandPrediction, row: int) -> tuple[HandBatch, HandPrediction]:
    """Return one sample of a batch, which does not keep the others in memory."""

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[row : row + 1].detach().cpu().clone()

    return replace(batch.map(copy), sources=batch.sources[row : row + 1], skipped=()), prediction.map(copy)


def _in_source_camera(points: Float[torch.Tensor, "b n 3"], batch: HandBatch) -> Float[np.ndarray, "b n 3"]:
    """Move points that are relative to the root to the annotated root, and mirror left hands back."""
    if batch.joints_camera is not None:
        has_root = batch.validity("joints_camera")[:, ROOT, None, None]
        points = points + torch.where(has_root, batch.joints_camera[:, [ROOT]], 0)
    if batch.mirrored is not None:
        points = torch.where(batch.mirrored[:, None, None], points * points.new_tensor([-1, 1, 1]), points)
    return _array(points)


def _sample_means(values: Float[np.ndarray, "n points"], counts: Bool[np.ndarray, "n points"]) -> np.ndarray:
    """Return each sample's mean over its points that count, NaN where none does."""
    total = np.where(counts, values, 0).sum(axis=1, dtype=np.float64)
    return np.divide(total, counts.sum(axis=1), out=np.full(len(values), np.nan), where=counts.any(axis=1))


def _joined(results: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Join batches of a measure; one without annotation has a single column that does not count."""
    points = max(values.shape[1] for values, _ in results)
    widened = [
        [np.pad(part, ((0, 0), (0, points - part.shape[1]))) for part in (values, counts)] for values, counts in results
    ]
    return np.concatenate([values for values, _ in widened]), np.concatenate([counts for _, counts in widened])


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
