import numba

from hamr_lightning import compiled as module
from hamr_lightning.compiled import compiled


def one_more(x):
    return x + 1


def test_where_nothing_can_be_written_it_compiles_all_the_same(monkeypatch):
    asked = []

    def njit(**options):
        asked.append(options)

        def decorate(function):
            if options.get("cache"):
                raise RuntimeError("cannot cache function: no locator available")
            return numba.njit(**options)(function)

        return decorate

    monkeypatch.setattr(module, "njit", njit)
    assert compiled(error_model="numpy")(one_more)(2) == 3
    assert asked == [
        {"nogil": True, "cache": cache, "error_model": "numpy"} if cache else {"nogil": True, "error_model": "numpy"}
        for cache in (True, False)
    ]
