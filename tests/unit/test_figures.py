"""Figures: what is drawn, where, and that the files are whole. How they look was judged by eye."""

import cv2
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from hamr_lightning import figures
from hamr_lightning.types import HandBatch, HandParameters, HandPrediction

BLACK = np.zeros((64, 64, 3), np.uint8)
SQUARE = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
SQUARE_FACES = np.array([[0, 1, 2], [0, 2, 3]])


def joints_at(**places):
    joints = np.full((21, 2), np.nan)
    for joint, place in places.items():
        joints[int(joint[1:])] = place
    return joints


def make_batch(**fields):
    return HandBatch(torch.full((3, 3, 256, 256), 0.5), **fields)


def make_prediction(points, silhouette):
    zeros = torch.zeros(3, 3)
    parameters = HandParameters(torch.ones(3, 3), zeros, zeros, zeros)
    return HandPrediction(
        points, torch.zeros(3, 21, 3), torch.zeros(3, 21, 2), points, parameters, (parameters,),
        torch.zeros(3, 1, 21, 8, 8), silhouette,
    )  # fmt: skip


def test_a_joint_is_drawn_about_its_place():
    drawn = figures.draw_skeleton(BLACK, joints_at(j0=(0.5, -0.25)))
    brightness = drawn.sum(axis=-1) / drawn.sum()

    assert brightness.sum(axis=0) @ (np.arange(64) + 0.5) == pytest.approx(48, abs=0.05)
    assert brightness.sum(axis=1) @ (np.arange(64) + 0.5) == pytest.approx(24, abs=0.05)
    assert not BLACK.any()


def test_fingers_have_colours_of_their_own():
    tips = {f"j{4 * finger}": (0.3 * finger - 0.9, 0) for finger in range(1, 6)}
    drawn = figures.draw_skeleton(BLACK, joints_at(**tips))
    colours = {tuple(drawn[31, round((x + 1) * 32)].tolist()) for x, _ in tips.values()}

    assert len(colours) == 5


def test_joints_that_cannot_be_drawn_are_left_out():
    joints = joints_at(j0=(0, 0), j1=(0.5, 0), j2=(1e9, np.inf), j3=(-1e9, 0))
    only_root = figures.draw_skeleton(BLACK, joints_at(j0=(0, 0)))

    np.testing.assert_array_equal(figures.draw_skeleton(BLACK, joints, np.arange(21) != 1), only_root)


def test_a_coarse_mask_tints_what_it_covers():
    mask = np.zeros((16, 16), np.float32)
    mask[4:12, 4:12] = 1
    drawn = figures.draw_mask(BLACK, mask)

    assert drawn[20:44, 20:44].any(axis=-1).all()
    assert not drawn[:14].any()
    assert not drawn[50:].any()


def test_a_mesh_covers_its_pixels_and_no_others():
    grey = np.full_like(BLACK, 50)
    drawn = figures.overlay_mesh(grey, SQUARE, SQUARE_FACES)

    changed = (drawn != grey).any(axis=-1)
    assert changed[16:48, 16:48].all()
    assert changed.sum() == 32 * 32


def test_the_nearer_triangle_hides_the_farther():
    tilted = np.array([[-0.5, -0.5, 1], [0.5, -0.5, 0.1], [0.5, 0.5, 0.1], [-0.5, 0.5, 1]])
    points, faces = np.concatenate([SQUARE, tilted]), np.concatenate([SQUARE_FACES, SQUARE_FACES + 4])

    np.testing.assert_array_equal(
        figures.overlay_mesh(BLACK, points, faces), figures.overlay_mesh(BLACK, SQUARE, SQUARE_FACES)
    )


@pytest.mark.parametrize(("count", "shape"), [(1, (256, 512)), (3, (256, 1536)), (5, (512, 2048))])
def test_a_batch_without_annotation_shows_its_images_twice(count, shape):
    image = torch.rand(count, 3, 256, 256)
    sheet = figures.batch_sheet(HandBatch(image))

    assert sheet.shape == (*shape, 3)
    np.testing.assert_array_equal(sheet[:256, :256], np.rint(255 * image[0].permute(1, 2, 0).numpy()))
    np.testing.assert_array_equal(sheet[:256, :256], sheet[:256, 256:512])


def test_small_crops_are_enlarged():
    assert figures.batch_sheet(HandBatch(torch.rand(1, 3, 64, 64))).shape == (256, 512, 3)


def test_a_batch_shows_only_valid_annotation():
    valid = torch.tensor([True, False, True])
    batch = make_batch(
        mask=torch.ones(3, 256, 256), mask_valid=valid,
        joints_2d=torch.zeros(3, 21, 2), joints_2d_valid=valid[:, None].expand(3, 21),
    )  # fmt: skip
    sheet = figures.batch_sheet(batch)

    np.testing.assert_array_equal(sheet[:, 512:768], sheet[:, 768:1024])
    assert (sheet[:, :256] != sheet[:, 256:512]).any()


def test_predictions_are_shown_beside_the_annotation():
    left, top = (torch.zeros(3, 32, 32) for _ in range(2))
    left[:, :, :16] = 1
    top[:, :16] = 1
    batch = make_batch(mask=top.repeat_interleave(8, 1).repeat_interleave(8, 2), mask_valid=torch.arange(3) < 1)
    points = torch.tensor(SQUARE).float().expand(3, 4, 3)
    sheet = figures.prediction_sheet(batch, make_prediction(points, left), torch.from_numpy(SQUARE_FACES), count=2)

    assert sheet.shape == (28 + 2 * 256, 4 * 256, 3)
    mask = sheet[28 : 28 + 256, 768:].astype(int)
    both, annotated_only, predicted_only, neither = mask[64, 64], mask[64, 192], mask[192, 64], mask[192, 192]
    assert both.min() > 200
    assert annotated_only.argmax() == 2
    assert predicted_only.argmax() == 0
    assert neither.max() < 50
    not_annotated = sheet[28 + 256 :, 768:]
    assert np.ptp(not_annotated[192, 64]) == 0


def test_a_model_without_mesh_has_two_columns():
    prediction = make_prediction(torch.zeros(3, 0, 3), None)

    assert figures.prediction_sheet(make_batch(), prediction, None).shape == (28 + 3 * 256, 2 * 256, 3)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="count must be at least 1"):
        figures.prediction_sheet(make_batch(), make_prediction(torch.zeros(3, 0, 3), None), None, count=0)


def test_a_picture_is_written_whole(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    figures.save_png(picture, tmp_path / "new" / "a.png")

    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "new" / "a.png"))[..., ::-1], picture)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_training_is_plotted(tmp_path):
    table = tmp_path / "metrics.csv"
    table.write_text(
        "step,train/loss,val/loss,val/joint_error_mm,lr-RMSprop,train/seg\n"
        "0,9.5,,,2e-4,0\n10,2.5,,,,0\n19,,1.5,31,,\n20,nan,,,,0\n"
    )
    figures.plot_training(table, tmp_path / "curves.png")

    assert cv2.imread(str(tmp_path / "curves.png")).shape == (638, 1386, 3)
    assert len(list(tmp_path.iterdir())) == 2


def test_pck_curves_are_plotted_with_the_areas_in_the_first_ones_range(tmp_path, monkeypatch):
    labels = []
    monkeypatch.setattr(Axes, "plot", lambda self, *args, label, **_: labels.append(label))
    monkeypatch.setattr(Axes, "legend", lambda *_, **__: None)
    curves = {
        "mine": (np.array([20.0, 30.0, 50.0]), np.array([0.2, 0.4, 1.0])),
        "wider": (np.array([0.0, 60.0]), np.array([0.0, 0.6])),
        "narrower": (np.array([25.0, 50.0]), np.array([1.0, 1.0])),
    }
    figures.plot_pck(curves, "3D PCK", "mm", tmp_path / "new" / "pck.png")

    assert labels == [f"mine (AUC {(10 * 0.3 + 20 * 0.7) / 30:.3f})", "wider (AUC 0.350)", "narrower"]
    assert cv2.imread(str(tmp_path / "new" / "pck.png")).shape == (528, 704, 3)
    assert len(list((tmp_path / "new").iterdir())) == 1


@pytest.mark.parametrize("content", [None, "", "step,train/loss\n", "step,train/loss\n1,\n"])
def test_a_table_without_metrics_is_refused(tmp_path, content):
    table = tmp_path / "metrics.csv"
    if content is not None:
        table.write_text(content)

    with pytest.raises(ValueError, match=r"metrics\.csv .*metrics to plot"):
        figures.plot_training(table, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
