"""Every public name, used as the README and the package's documentation show it."""

import subprocess
import sys

import pytest
import torch

import hamr_lightning as hl


def test_every_public_name_is_there():
    assert set(hl.__all__) <= set(dir(hl))
    for name in hl.__all__:
        assert getattr(hl, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = hl.no_such_name


def test_importing_the_package_imports_nothing_heavy():
    code = "import hamr_lightning, sys; print([m for m in ('torch', 'numpy', 'numba', 'cv2') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_hand_decoder_camera_and_renderer_fit_together():
    hand = hl.HandModel.load("open")
    assert hand.vertices.shape == (778, 3)
    assert hand.faces.shape == (1538, 3)
    assert len(hand.fingertips) == 5
    decoder = hl.ManoDecoder(hand, pose_components=6, shape_components=10, flat_hand_mean=False, joint_source="mesh")
    mesh = decoder(torch.zeros(2, 3), torch.zeros(2, 6), torch.zeros(2, 10))
    assert mesh.vertices.shape == (2, 778, 3)
    assert mesh.joints.shape == (2, 21, 3)

    camera = torch.tensor([[9.0, 0.0, 0.0]]).expand(2, 3)
    joints_2d = hl.project(mesh.joints, camera)
    assert torch.allclose(hl.fit_camera(mesh.joints, joints_2d), camera, atol=1e-3)

    renderer = hl.build("renderer", "contour", faces=hand.faces, size=64)
    points = torch.cat([hl.project(mesh.vertices, camera), mesh.vertices[..., 2:]], dim=-1).requires_grad_()
    mask = renderer(points)
    assert mask.shape == (2, 64, 64)
    assert mask.min() >= 0
    assert mask.max() == 1
    mask.sum().backward()
    assert points.grad[..., :2].abs().max() > 0
    assert points.grad[..., 2].abs().max() == 0


def test_a_model_is_built_from_a_recipe_and_predicts():
    overrides = ["backbone.channels=16", "backbone.growth=0", "losses.cam.weight=0.2", "data.workers=0"]
    recipe = hl.load_recipe("quickstart", overrides=overrides)
    assert isinstance(recipe, hl.Recipe)
    model = recipe.build_model().eval()
    assert isinstance(model, hl.HAMRModule)
    assert model.losses["cam"].weight == 0.2
    with torch.no_grad():
        prediction = model(torch.rand(2, 3, 128, 128))
    assert isinstance(prediction, hl.HandPrediction)
    assert isinstance(prediction.parameters, hl.HandParameters)
    assert prediction.vertices.shape == (2, 778, 3)
    assert prediction.joints_3d.shape == (2, 21, 3)
    assert prediction.joints_2d.shape == (2, 21, 2)
    assert prediction.camera.shape == (2, 3)
    assert prediction.heatmaps.shape == (2, 1, 32, 32, 32)
    batch = hl.HandBatch(image=torch.rand(2, 3, 128, 128))
    assert hl.build("loss", "geo", weight=1.0)(prediction, batch).shape == (2,)
    with pytest.raises(hl.RecipeError, match="did you mean"):
        hl.load_recipe("quickstart", overrides=["losses.cam.wieght=1"])


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("backbone", {"hourglass"}),
        ("regressor", {"iterative"}),
        ("decoder", {"joints", "mano", "manopth"}),
        ("renderer", {"contour"}),
        ("loss", {"cam", "geo", "heatmap", "joints_2d", "joints_3d", "seg"}),
        ("dataset", {"rhd", "synthetic"}),
    ],
)
def test_what_ships_is_available(kind, names):
    assert names <= set(hl.available(kind))
