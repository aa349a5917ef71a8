import pytest
import torch

from hamr_lightning.types import HandBatch, HandParameters


def test_a_field_that_is_none_is_had_by_no_sample():
    batch = HandBatch(image=torch.zeros(2, 3, 8, 8), joints_2d=torch.zeros(2, 21, 2))
    assert batch.has("joints_2d").tolist() == [True, True]
    assert batch.has("mask").tolist() == [False, False]
    assert batch.has().tolist() == [True, True]


def test_a_sample_has_several_fields_only_if_it_has_each():
    joints_valid = torch.zeros(3, 21, dtype=torch.bool)
    joints_valid[:2, 4] = True
    batch = HandBatch(
        image=torch.zeros(3, 3, 8, 8),
        joints_3d=torch.zeros(3, 21, 3),
        joints_3d_valid=joints_valid,
        mask=torch.zeros(3, 8, 8),
        mask_valid=torch.tensor([False, True, True]),
    )
    assert batch.has("joints_3d").tolist() == [True, True, False]
    assert batch.has("joints_3d", "mask").tolist() == [False, True, False]


def test_validity_is_all_true_where_none_is_given():
    some = torch.tensor([True, False])
    batch = HandBatch(
        image=torch.zeros(2, 3, 4, 4), joints_3d=torch.zeros(2, 21, 3), mask=torch.zeros(2, 4, 4), mask_valid=some
    )
    assert batch.validity("mask") is some
    assert batch.validity("joints_3d").shape == (2, 21)
    assert batch.validity("joints_3d").all()


def test_concatenate_keeps_order_and_sources():
    batches = [HandBatch(image=torch.full((1, 3, 4, 4), float(i)), sources=(f"sample {i}",)) for i in range(3)]
    joined = HandBatch.concatenate(batches)
    assert joined.image[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert joined.sources == ("sample 0", "sample 1", "sample 2")
    assert joined.mask is None


def test_concatenate_refuses_a_field_that_only_some_have():
    with_mask = HandBatch(image=torch.zeros(1, 3, 4, 4), mask=torch.zeros(1, 4, 4))
    without = HandBatch(image=torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"HandBatch\.mask is None in 1 of 2 batches"):
        HandBatch.concatenate([with_mask, without])
    with pytest.raises(ValueError, match="at least one"):
        HandBatch.concatenate([])


def test_records_move_as_one_thing():
    parameters = HandParameters(*(torch.zeros(1, n, requires_grad=True) for n in (3, 3, 6, 10)))
    assert parameters.to(torch.float64).betas.dtype == torch.float64
    assert not parameters.detach().camera.requires_grad
    moved = HandBatch(image=torch.zeros(1, 3, 4, 4), sources=("a",)).to("meta")
    assert moved.image.device.type == "meta"
    assert moved.sources == ("a",)
