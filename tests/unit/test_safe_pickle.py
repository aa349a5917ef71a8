import pickle
import sys

import numpy as np
import pytest

from hamr_lightning.safe_pickle import RefusedPickleError, dense, loads
from hostile_array import HOSTILE_ARRAY


def read(value, protocol=4):
    return loads(pickle.dumps(value, protocol), names={})


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "<i8", ">u4", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_and_numbers_come_back(protocol, dtype, order):
    array = np.asarray(np.arange(24).reshape(2, 3, 4), dtype, order=order)
    for value in (array, array[:, ::2], array[1, 2, 3]):
        again = dense(read({"a": [value]}, protocol)["a"][0])
        assert (again.dtype, again.shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(again, value)


@pytest.mark.parametrize(
    "value",
    [
        HOSTILE_ARRAY,
        np.array([{}]),
        np.array(["a"]),
        np.zeros(2, [("a", "f4")]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, "V8"),
    ],
)
def test_an_array_of_no_numbers_is_refused(value):
    with pytest.raises((TypeError, RefusedPickleError)):
        dense(read(value))


@pytest.mark.parametrize("value", [3, "a", None, {"a": 1}])
def test_what_is_no_array_is_named(value):
    with pytest.raises(TypeError, match=f"expected an array, found {type(value).__name__}"):
        dense(read(value))


@pytest.mark.parametrize("function", [eval, sys.exit, np.load, np.frombuffer])
def test_any_other_name_is_refused(function):
    with pytest.raises(RefusedPickleError, match=rf"asks for {function.__module__}\.{function.__name__}"):
        read(function)
