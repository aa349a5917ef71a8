from dataclasses import replace

import numpy as np
import pytest
import torch

from hamr_lightning.losses.seg import SegmentationLoss, average_to


def test_it_is_the_share_of_area_that_differs(make_prediction, make_batch):
    mask = torch.zeros(2, 32, 32)
    mask[0, :, :16] = 1
    mask[1, 1, 1] = 1
    silhouette = torch.zeros(2, 16, 16)
    silhouette[0, :8] = 1
    values = SegmentationLoss()(make_prediction(silhouette=silhouette), make_batch(mask=mask))
    torch.testing.assert_close(values, torch.tensor([0.5, 1 / 32**2]))


def test_what_lies_beyond_the_source_image_is_free(make_prediction, make_batch):
    one_pixel_per_unit = torch.tensor([[1.0, 0, 1], [0, 1, 1]]).expand(2, -1, -1)
    only_left_half = torch.tensor([1.0, 2.0]).expand(2, -1)
    batch = make_batch(mask=torch.zeros(2, 32, 32))
    batch = replace(batch, crop_to_image=one_pixel_per_unit, image_size_px=only_left_half)
    silhouette = torch.zeros(2, 16, 16)
    silhouette[:, :, 8:] = 1
    silhouette[:, :4, 7] = 1
    values = SegmentationLoss()(make_prediction(silhouette=silhouette), batch)

    torch.testing.assert_close(values, torch.full((2,), 4 / (16 * 8)))


def test_a_mask_is_averaged_over_area():
    mask = torch.rand(2, 12, 8)
    expected = [
        [[mask[b, 3 * i : 3 * i + 3, 2 * j : 2 * j + 2].mean() for j in range(4)] for i in range(4)] for b in (0, 1)
    ]
    np.testing.assert_allclose(average_to(mask, 4), expected, rtol=1e-6)


def test_gradients_agree_with_finite_differences(make_prediction, make_batch):
    silhouette = torch.rand(2, 4, 4, dtype=torch.float64, requires_grad=True)
    batch = make_batch(image_size=8)
    assert torch.autograd.gradcheck(lambda x: SegmentationLoss()(make_prediction(silhouette=x), batch), silhouette)


def test_a_prediction_without_silhouette_is_refused(make_prediction, make_batch):
    with pytest.raises(ValueError, match="no silhouette; give the model a renderer"):
        SegmentationLoss()(make_prediction(silhouette=None), make_batch())


def test_a_mask_that_does_not_divide_is_refused(make_prediction, make_batch):
    with pytest.raises(ValueError, match="multiples of the renderer's size 16, got 40 x 40"):
        SegmentationLoss()(make_prediction(), make_batch(image_size=40))
