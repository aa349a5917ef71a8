"""A cache of the tests' own; records of random numbers, for whatever takes a prediction and a batch."""

import pytest
import torch

from hamr_lightning.types import HandBatch, HandParameters, HandPrediction


@pytest.fixture(autouse=True, scope="session")
def annotation_cache(tmp_path_factory):
    """Keep every test's annotation cache, subprocesses' too, out of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAMR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def make_prediction():
    def make(batch_size=2, silhouette_size=16, seed=0, **fields):
        generator = torch.Generator().manual_seed(seed)

        def leaf(*shape):
            return torch.randn(batch_size, *shape, generator=generator).mul(0.1).requires_grad_()

        parameters = HandParameters(camera=leaf(3), global_orient=leaf(3), hand_pose=leaf(6), betas=leaf(10))
        record = {
            "vertices": leaf(10, 3),
            "joints_3d": leaf(21, 3),
            "joints_2d": leaf(21, 2),
            "points": leaf(10, 3),
            "parameters": parameters,
            "iterations": (parameters,),
            "heatmaps": leaf(2, 24, 16, 16),
            "silhouette": leaf(silhouette_size, silhouette_size),
        }
        return HandPrediction(**(record | fields))

    return make


@pytest.fixture
def make_batch():
    def make(batch_size=2, image_size=32, seed=1, **fields):
        generator = torch.Generator().manual_seed(seed)

        def values(*shape):
            return torch.randn(batch_size, *shape, generator=generator).mul(0.1)

        record = {
            "image": torch.rand(batch_size, 3, image_size, image_size, generator=generator),
            "joints_2d": values(21, 2),
            "joints_3d": values(21, 3),
            "mask": (values(image_size, image_size) > 0).float(),
        }
        return HandBatch(**(record | fields))

    return make
