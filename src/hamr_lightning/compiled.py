"""Compilation by numba, as all kernels have it."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator: compile at the first call, and keep the result where there is a place that can be written to.

    Args:
        options: Further ones of :func:`numba.njit`. The interpreter lock is never held.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:
            return njit(nogil=True, **options)(function)

    return decorate
