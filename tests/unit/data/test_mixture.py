"""Mixtures: how often each sample comes, and that it is a pure function."""

import pickle
from collections import Counter
from itertools import chain

import numpy as np
import pytest

from hamr_lightning.data.base import HandDataset, HandSample
from hamr_lightning.data.mixture import Mixture


class Named(HandDataset):
    def __init__(self, name, length):
        self.name, self.length = name, length

    def __len__(self):
        return self.length

    def sample(self, index, epoch):
        if not 0 <= index < self.length:
            raise IndexError
        image = np.zeros((4, 4, 3), np.uint8)
        return HandSample(image, f"{self.name}:{index}:{epoch}", False, np.zeros((21, 2), np.float32))


def drawn(mixture, epochs):
    return [[mixture.sample(index, epoch).source for index in range(len(mixture))] for epoch in range(epochs)]


def test_an_epoch_has_each_set_by_its_weight():
    mixture = Mixture([Named("a", 10), Named("b", 7), Named("c", 8)], [1.0, 2.0, 0.5])

    assert len(mixture) == 10 + 14 + 4
    for epoch in drawn(mixture, 3):
        assert Counter(source[0] for source in epoch) == {"a": 10, "b": 14, "c": 4}


@pytest.mark.parametrize("weight", [0.3, 0.5, 1.0, 1.4, 3.0])
def test_no_sample_comes_again_before_all_others_have_come(weight):
    sources = list(chain(*drawn(Mixture([Named("a", 10)], [weight]), 10)))

    assert len(set(sources)) == len(sources) == round(10 * weight) * 10
    passes = [source.split(":") for source in sources]
    for start in range(0, len(sources) - 9, 10):
        one = passes[start : start + 10]
        assert sorted(int(index) for _, index, _ in one) == list(range(10))
        assert {int(turn) for *_, turn in one} == {start // 10}


def test_it_is_a_pure_function_of_seed_index_and_epoch():
    mixture = Mixture([Named("a", 30), Named("b", 20)], [0.5, 1.0], seed=4)
    sources = drawn(mixture, 3)

    assert pickle.loads(pickle.dumps(mixture)).sample(20, 2).source == sources[2][20]
    assert drawn(Mixture([Named("a", 30), Named("b", 20)], [0.5, 1.0], seed=4), 3) == sources
    assert drawn(Mixture([Named("a", 30), Named("b", 20)], [0.5, 1.0], seed=5), 3) != sources


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), 0.01])
def test_a_weight_out_of_bounds_is_named(weight):
    with pytest.raises(ValueError, match=r"data\.train\.1\.weight must be a number above 0 .* of 9, got"):
        Mixture([Named("a", 3), Named("b", 9)], [1.0, weight])


def test_an_index_beyond_the_end_is_refused():
    for index in (-1, 3):
        with pytest.raises(IndexError):
            Mixture([Named("a", 3)], [1.0]).sample(index, 0)
