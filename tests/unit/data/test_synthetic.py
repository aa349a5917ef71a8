"""Rendered samples against the decoder, the pinhole camera, and a mask and a depth found by brute force."""

import hashlib
import math
import os
import subprocess
import sys
from dataclasses import fields

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hamr_lightning.data.base import HandSample
from hamr_lightning.data.synthetic import SyntheticDataset, _draw_turn
from hamr_lightning.decoders import ManoDecoder
from hamr_lightning.hand_model import HandModel

SIZE = 96


@pytest.fixture(scope="module")
def plain() -> SyntheticDataset:
    return SyntheticDataset(render_size=SIZE, occluders=0.0)


@pytest.fixture(scope="module")
def samples(plain: SyntheticDataset) -> list[HandSample]:
    return [plain.sample(index, 0) for index in range(60)]


def digest(sample: HandSample) -> str:
    arrays = [getattr(sample, field.name) for field in fields(sample)]
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays if isinstance(a, np.ndarray))).hexdigest()


def closed_faces(hand: HandModel) -> np.ndarray:
    """The hand's triangles and a fan over its wrist, with the middle of the wrist as vertex 778."""
    edges = {(a, b) for face in hand.faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)}
    rim = [(b, a, 778) for a, b in edges if (b, a) not in edges]
    return np.concatenate([hand.faces, rim])


def brute_force(sample: HandSample, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Mask and depth of the closed hand alone, at a place within every pixel."""
    faces = closed_faces(HandModel.load("open"))
    rim = np.unique(faces[1538:, :2])
    vertices = np.concatenate([sample.vertices, sample.vertices[rim].mean(axis=0, keepdims=True)]).astype(float)
    focal, centre = sample.intrinsics[0, 0], SIZE / 2
    x, y = (focal * vertices[:, :2] / vertices[:, 2:] + centre).T
    mask, depth = np.zeros((SIZE, SIZE), bool), np.full((SIZE, SIZE), np.inf)
    for a, b, c in faces:
        columns = np.arange(max(int(x[[a, b, c]].min()) - 1, 0), min(int(x[[a, b, c]].max()) + 2, SIZE))
        rows = np.arange(max(int(y[[a, b, c]].min()) - 1, 0), min(int(y[[a, b, c]].max()) + 2, SIZE))[:, None]
        matrix = np.array([[x[a], x[b], x[c]], [y[a], y[b], y[c]], [1, 1, 1]])
        if abs(np.linalg.det(matrix)) < 1e-9 or not columns.size or not rows.size:
            continue
        place = np.broadcast_arrays(columns + offset, rows + offset, np.ones((1, 1)))
        share = np.einsum("ij,jrc->irc", np.linalg.inv(matrix), np.stack(place))
        inside = (share >= 0).all(axis=0)
        z = 1 / np.einsum("irc,i->rc", share, 1 / vertices[[a, b, c], 2])
        window = np.ix_(rows[:, 0], columns)
        mask[window] |= inside
        depth[window] = np.where(inside, np.minimum(depth[window], z), depth[window])
    return mask, depth


def test_a_sample_is_a_pure_function_of_seed_split_epoch_and_index(plain: SyntheticDataset) -> None:
    first = digest(plain.sample(3, 2))
    plain.sample(9, 1)
    assert digest(plain.sample(3, 2)) == first
    others = [plain.sample(4, 2), plain.sample(3, 1), SyntheticDataset(render_size=SIZE, seed=1).sample(3, 2)]
    validation = SyntheticDataset("val", render_size=SIZE, occluders=0.0)
    assert digest(validation.sample(3, 2)) == digest(validation.sample(3, 7))
    digests = {first, digest(validation.sample(3, 0)), *map(digest, others)}
    assert len(digests) == 5
    assert digest(plain.sample(3, 0)) != digest(validation.sample(3, 0))


def test_another_process_renders_the_same(plain: SyntheticDataset) -> None:
    script = (
        "import sys; from hamr_lightning.data.synthetic import SyntheticDataset as Data;"
        f"s = Data(render_size={SIZE}, occluders=0.0).sample(5, 1);"
        "sys.stdout.buffer.write(s.image.tobytes() + s.vertices.tobytes())"
    )
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, check=True).stdout
    sample = plain.sample(5, 1)
    assert output == sample.image.tobytes() + sample.vertices.tobytes()


def test_joints_project_through_the_camera(samples: list[HandSample]) -> None:
    for sample in samples:
        image = sample.joints_3d.astype(float) @ sample.intrinsics.T
        np.testing.assert_allclose(sample.joints_2d_px, image[:, :2] / image[:, 2:], atol=1e-3)
        assert (sample.vertices[:, 2] > 0.1).all()
        assert not sample.is_left


def test_the_decoder_makes_the_same_hand_from_pose_and_shape(samples: list[HandSample]) -> None:
    decoder = ManoDecoder("open", pose_components=None, flat_hand_mean=True).double()
    names = ("global_orient", "hand_pose", "betas")
    mesh = decoder(*(torch.tensor(np.stack([getattr(s, name) for s in samples])) for name in names))
    root = mesh.joints[:, :1]
    for field, decoded in (("vertices", mesh.vertices), ("joints_3d", mesh.joints)):
        rendered = np.stack([getattr(s, field) - s.joints_3d[0] for s in samples])
        np.testing.assert_allclose(rendered, (decoded - root).numpy(), atol=1e-5)


def test_the_mask_is_the_closed_hands(samples: list[HandSample]) -> None:
    """The mask's quarters are samples at 1/4 and 3/4 of a pixel; two of the four lie on the diagonal."""
    for sample in samples[:4]:
        near, far = brute_force(sample, 0.25)[0], brute_force(sample, 0.75)[0]
        assert near.sum() > 200
        assert np.mean((sample.mask > 96) < (near & far)) < 1e-3
        assert np.mean((sample.mask > 160) > (near | far)) < 1e-3
        assert abs(sample.mask.mean() / 255 - (near.mean() + far.mean()) / 2) < 2e-3
        assert set(np.unique(sample.mask)) > {0, 255}


def test_the_depth_is_the_nearest_surfaces(samples: list[HandSample]) -> None:
    """Of the four samples in a pixel the nearest counts; brute force looks at two of them."""
    for sample in samples[:4]:
        inner = cv2.erode(sample.mask, np.ones((3, 3))) == 255
        surface = np.minimum(*(brute_force(sample, offset)[1][inner] for offset in (0.25, 0.75)))
        difference = surface - sample.depth[inner]
        assert difference.min() > -1e-4
        assert np.median(difference) < 1e-3
        assert np.isinf(sample.depth[0, 0]) or np.isinf(sample.depth[-1, -1])


def test_no_hand_ends_in_the_air(samples: list[HandSample]) -> None:
    for sample in samples:
        border = np.concatenate([sample.depth[[0, -1]].ravel(), sample.depth[:, [0, -1]].ravel()])
        assert np.isfinite(border).any(), sample.source


def test_hands_fill_a_fair_share_of_the_picture(samples: list[HandSample]) -> None:
    shares = np.array([sample.mask.mean() / 255 for sample in samples])
    assert 0.08 < shares.mean() < 0.3
    assert shares.min() > 0.02
    joints = np.stack([sample.joints_2d_px for sample in samples])
    assert np.mean((joints > 0) & (joints < SIZE)) > 0.98
    centres = joints.mean(axis=1)
    assert (centres.std(axis=0) > 0.03 * SIZE).all()


def test_views_differ_and_the_arm_does_not_point_at_the_camera(samples: list[HandSample]) -> None:
    turns = Rotation.from_rotvec([sample.global_orient for sample in samples])
    forearms = turns.apply([1.0, 0.0, 0.0])
    palms = turns.apply([0.0, -1.0, 0.0])
    assert forearms[:, 2].min() > -0.8
    assert np.linalg.norm(palms.mean(axis=0)) < 0.35
    assert forearms[:, 1].mean() > 0.1


def test_hands_stand_out_and_pictures_are_neither_black_nor_white(samples: list[HandSample]) -> None:
    contrast, skin = [], []
    for sample in samples:
        hand, behind = sample.mask == 255, ~np.isfinite(sample.depth)
        skin.append(sample.image[hand].mean(axis=0))
        contrast.append(np.abs(skin[-1] - sample.image[behind].mean(axis=0)).max())
        assert sample.image[hand].std() > 3, sample.source
    assert np.mean(contrast) > 40
    colours = np.array(skin)
    brightness = colours.mean(axis=1)
    assert brightness.min() > 15
    assert brightness.max() < 245
    assert brightness.std() > 20
    assert np.mean((colours[:, 0] > colours[:, 1]) & (colours[:, 1] > colours[:, 2])) > 0.8


def test_things_are_cut_out_of_the_mask_and_lie_nearer() -> None:
    data = SyntheticDataset(render_size=SIZE, occluders=1.0)
    nearer = []
    for index in range(6):
        sample = data.sample(index, 0)
        hand, depth = brute_force(sample, 0.25)
        hidden = hand & (sample.mask == 0)
        nearer.append(depth[hidden] - sample.depth[hidden])
    distances = np.concatenate(nearer)
    assert len(distances) > 200
    assert np.mean(distances > 0) > 0.98


class TestBackgrounds:
    def test_photographs_stand_behind_the_hands(self, tmp_path) -> None:
        (tmp_path / "more").mkdir()
        cv2.imwrite(str(tmp_path / "more" / "green.PNG"), np.full((40, 60, 3), (10, 230, 10), np.uint8))
        sample = SyntheticDataset(render_size=SIZE, backgrounds=str(tmp_path)).sample(0, 0)
        behind = sample.image[~np.isfinite(sample.depth)].mean(axis=0)
        assert behind[1] > 2 * max(behind[0], behind[2])

    def test_a_broken_photograph_is_named(self, tmp_path) -> None:
        (tmp_path / "broken.jpg").write_bytes(b"no picture")
        data = SyntheticDataset(render_size=SIZE, backgrounds=str(tmp_path))
        with pytest.raises(ValueError, match=r"broken\.jpg.*cannot be read"):
            data.sample(0, 0)

    def test_a_folder_without_photographs_is_refused(self, tmp_path) -> None:
        with pytest.raises(ValueError, match="no photograph"):
            SyntheticDataset(backgrounds=str(tmp_path))
        with pytest.raises(ValueError, match="not a folder"):
            SyntheticDataset(backgrounds=str(tmp_path / "absent"))


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    data = SyntheticDataset(count=5)
    assert len(data) == 5
    with pytest.raises(IndexError, match=r"\[0, 5\)"):
        data.sample(index, 0)


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"seed": -1}, {"render_size": 31}, {"val_count": 0}, {"occluders": 1.5}, {"hand": "left"}],
    ids=str,
)
def test_arguments_out_of_bounds_are_refused(wrong: dict) -> None:
    ((name, _),) = wrong.items()
    if name == "hand":
        hand = HandModel.load("open")
        wrong = {"hand": type(hand)(**{**vars(hand), "side": "left"})}
    with pytest.raises(ValueError, match=f"^{name} must be"):
        SyntheticDataset(**wrong)


@pytest.mark.mano
@pytest.mark.skipif("HAMR_MANO_RIGHT" not in os.environ, reason="HAMR_MANO_RIGHT names no MANO file")
def test_a_mano_hand_is_rendered() -> None:
    sample = SyntheticDataset(hand=os.environ["HAMR_MANO_RIGHT"], render_size=SIZE).sample(0, 0)
    assert sample.mask.mean() / 255 > 0.02


def test_hands_turn_no_more_than_asked_and_rotations_are_spread_evenly() -> None:
    """Of all rotations by at most a, the share by at most b is (b - sin b) / (a - sin a)."""
    rng = np.random.default_rng(0)
    most, half = math.radians(120), math.radians(60)
    angles = np.array([Rotation.from_matrix(_draw_turn(most, rng)).magnitude() for _ in range(4000)])
    assert angles.max() <= most
    share = (half - math.sin(half)) / (most - math.sin(most))
    assert abs(np.mean(angles <= half) - share) < 4 * math.sqrt(share / 4000)


def test_an_upright_hand_shows_its_palm() -> None:
    dataset = SyntheticDataset(turn=1.0, count=4)
    for index in range(4):
        sample = dataset.sample(index, 0)
        turn = Rotation.from_rotvec(sample.global_orient)
        assert turn.apply([-1.0, 0.0, 0.0])[1] < -0.9  # the fingers' direction
        assert turn.apply([0.0, -1.0, 0.0])[2] < -0.9  # the palm's
