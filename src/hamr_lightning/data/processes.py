"""Work on every sample of a data set, dealt out to processes."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Final, TypeVar

import cv2

from hamr_lightning.errors import UserError

_CHUNK: Final = 16

_Result = TypeVar("_Result")

_work: Callable[[int], Any]


def map_indices(work: Callable[[int], _Result], count: int, workers: int) -> Iterator[_Result]:
    """Yield ``work(0)``, ``work(1)`` and so on to ``work(count - 1)``, in this order.

    Args:
        work: Is pickled once for each process.
        count: How many.
        workers: Processes, at least 0; with 0 the calling process does the work.

    Raises:
        UserError: If a process dies.
    """
    workers = min(workers, -(-count // _CHUNK))
    if workers == 0:
        yield from map(work, range(count))
        return
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(workers, context, _set_up, (work,))
    try:
        yield from pool.map(_run, range(count), chunksize=_CHUNK)
    except BrokenProcessPool as error:
        raise UserError("a worker process died, perhaps for lack of memory; try --workers 0") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _set_up(work: Callable[[int], Any]) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of the terminal
    cv2.setNumThreads(1)


def _run(index: int) -> Any:
    return _work(index)
