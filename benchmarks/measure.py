"""Timing side by side, and the rows of the table."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

WARM_UP = 3
"""Rounds not counted: what compiles, allocates or fills caches does so in them."""


@dataclass(frozen=True)
class Row:
    """A part's time beside a peer's, and beside what the machine needs at least; in seconds a call."""

    part: str
    ours: float
    peer: str = ""
    theirs: float | None = None
    limit: str = ""
    least: float | None = None
    images: int | None = None
    """What a call makes or takes, where that is images."""

    @property
    def rate(self) -> float | None:
        """Images a second."""
        return None if self.images is None else self.images / self.ours

    @property
    def ratio(self) -> float | None:
        """How many times as long the peer takes."""
        return None if self.theirs is None else self.theirs / self.ours

    @property
    def share(self) -> float | None:
        """The share of the limit's rate that is reached."""
        return None if self.least is None else self.least / self.ours


def medians(device: str, functions: Mapping[str, Callable[[], object]], seconds: float = 6.0) -> dict[str, float]:
    """Call the functions in turn, round after round, and return the median of each one's time.

    In turn, so that a machine whose speed drifts changes all of them alike. A round that comes after ``seconds`` is
    the last, but three are counted at least.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(WARM_UP):
        for function in functions.values():
            function()
    begun, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - begun < seconds:
        for name, function in functions.items():
            times[name].append(_time(device, function))
        rounds += 1
    return {name: median(values) for name, values in times.items()}


def _time(device: str, function: Callable[[], object]) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def as_markdown(rows: list[Row]) -> str:
    """Return the table."""
    lines = [
        "| part | ours, ms | images/s | peer | peer, ms | peer / ours | limit | limit, ms | share reached |",
        "|---|--:|--:|---|--:|--:|---|--:|--:|",
    ]
    for row in rows:
        cells = (
            row.part,
            _number(row.ours, 1e3),
            _number(row.rate),
            row.peer,
            _number(row.theirs, 1e3),
            _number(row.ratio),
            row.limit,
            _number(row.least, 1e3),
            "" if row.share is None else f"{row.share:.0%}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float | None, factor: float = 1) -> str:
    return "" if value is None else f"{factor * value:.3g}"
