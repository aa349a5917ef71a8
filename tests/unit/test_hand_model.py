import os
import pickle
import pickletools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csc_array, csc_matrix, csr_matrix

import mano_files
from hamr_lightning.hand_model import HandModel, HandModelError
from hamr_lightning.skeleton import FINGERTIP_VERTICES, MANO_PARENTS
from hostile_array import HOSTILE_ARRAY


@pytest.fixture(scope="module")
def arrays() -> dict:
    return mano_files.random_arrays()


@pytest.fixture(scope="module")
def official(arrays: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = mano_files.official_pickle(arrays)
    return mano_files.write(tmp_path_factory.mktemp("mano") / "MANO_RIGHT.pkl", content)


def refusal(path: Path) -> str:
    with pytest.raises(HandModelError) as caught:
        HandModel.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def assert_holds(hand: HandModel, arrays: dict) -> None:
    np.testing.assert_array_equal(hand.vertices, arrays["v_template"])
    np.testing.assert_array_equal(hand.faces, arrays["f"])
    np.testing.assert_array_equal(hand.shape_directions, arrays["shapedirs"])
    np.testing.assert_array_equal(hand.pose_directions, arrays["posedirs"])
    np.testing.assert_allclose(hand.joint_regressor, arrays["J_regressor"], rtol=1e-15)
    np.testing.assert_array_equal(hand.skinning_weights, arrays["weights"])
    np.testing.assert_array_equal(hand.pose_components, arrays["hands_components"])
    np.testing.assert_array_equal(hand.pose_mean, arrays["hands_mean"])


def test_the_open_hand() -> None:
    hand = HandModel.load("open")
    assert (hand.name, hand.side) == ("open", "right")
    assert tuple(hand.fingertips) == FINGERTIP_VERTICES["hamr"]
    assert tuple(hand.parents) == MANO_PARENTS
    np.testing.assert_allclose(hand.skinning_weights.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(hand.joint_regressor.sum(1), 1, atol=1e-6)


def test_the_official_form_loads_without_chumpy(official: Path, arrays: dict) -> None:
    names = {argument for opcode, argument, _ in _opcodes(official) if opcode.name == "GLOBAL"}
    assert names == mano_files.OFFICIAL_GLOBALS
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(official.read_bytes(), encoding="latin1")
    hand = HandModel.load(official)
    assert (hand.name, hand.side) == ("MANO_RIGHT", "right")
    assert_holds(hand, arrays)


@pytest.mark.parametrize("sparse", [csc_matrix, csr_matrix, csc_array, np.asarray])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_cleaned_pickles_load(tmp_path: Path, arrays: dict, protocol: int, sparse: type) -> None:
    cleaned = arrays | {"J_regressor": sparse(arrays["J_regressor"])}
    assert_holds(HandModel.load(mano_files.write(tmp_path / "hand.pkl", pickle.dumps(cleaned, protocol))), arrays)


@pytest.mark.mano
@pytest.mark.skipif("HAMR_MANO_RIGHT" not in os.environ, reason="HAMR_MANO_RIGHT names no MANO_RIGHT.pkl")
def test_the_licensed_file() -> None:
    hand = HandModel.load(os.environ["HAMR_MANO_RIGHT"])
    assert hand.side == "right"
    np.testing.assert_allclose(hand.skinning_weights.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(hand.joint_regressor.sum(1), 1, atol=1e-6)
    from_wrist = hand.vertices[hand.fingertips] - hand.joint_regressor[0] @ hand.vertices
    assert ((from_wrist[1:, 0] > -0.25) & (from_wrist[1:, 0] < -0.1)).all()


class Command:
    def __init__(self, function: object, *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, arrays: dict, protocol: int) -> None:
    mark = tmp_path / "ran"
    content = pickle.dumps(arrays | {"J": Command(Path.touch, mark)}, protocol)
    pickle.loads(content)
    assert mark.exists()
    mark.unlink()
    message = refusal(mano_files.write(tmp_path / "hand.pkl", content))
    assert "refused" in message
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.", "numpy.ndarray.__init__"),
        (b"c__builtin__\ngetattr\n.", "__builtin__.getattr"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "numpy.core.multiarray.fromfile"),
        (b"cchumpy.ch\nCh\nN}S'dense'\nc__builtin__\nset\ns\x86b.", "argument: 'state'"),
        (b"\x82\x01.", "extension"),
        (b"Pidentity\n.", "persistent"),
    ],
)
def test_no_way_leads_to_another_global(tmp_path: Path, content: bytes, named: str) -> None:
    assert named in refusal(mano_files.write(tmp_path / "hand.pkl", content))


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04junk", b"\x80\x04"]
)
def test_junk_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "neither a pickle nor an .npz" in refusal(mano_files.write(tmp_path / "hand.pkl", content))


def test_a_truncated_file_is_refused(tmp_path: Path, official: Path) -> None:
    refusal(mano_files.write(tmp_path / "hand.pkl", official.read_bytes()[:-1000]))


def test_something_else_pickled_is_refused(tmp_path: Path) -> None:
    assert "found list" in refusal(mano_files.write(tmp_path / "hand.pkl", pickle.dumps([1])))


def test_a_missing_file_tells_where_to_register(tmp_path: Path) -> None:
    assert "https://mano.is.tue.mpg.de" in refusal(tmp_path / "MANO_RIGHT.pkl")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("v_template", np.zeros((779, 3)), "v_template: expected shape (778, 3), found (779, 3)"),
        ("shapedirs", np.full((778, 3, 10), np.nan), "shapedirs: 23340 of 23340 numbers are not finite"),
        ("weights", np.full((778, 16), "a"), "weights: cannot be read (TypeError: expected an array of num"),
        ("weights", HOSTILE_ARRAY, "weights: cannot be read (TypeError: expected an array of numbers, found dtype V8"),
        ("weights", {"a": 1}, "weights: cannot be read (TypeError: expected an array, found dict"),
        ("f", np.zeros((1538, 3)), "f: expected int64, found float64"),
        ("f", np.full((1538, 3), 778), "f: expected vertices 0 to 777, found 778 to 778"),
        ("kintree_table", np.zeros((2, 16), int), "kintree_table: expected the parents (-1, 0, 1"),
        ("J_regressor", mano_files.sparse(np.ones((1, 1)), indices=np.array([7])), "J_regressor: cannot be read"),
        ("J_regressor", mano_files.foreign("chumpy.ch", "Ch"), "J_regressor: cannot be read"),
    ],
)  # fmt: skip
def test_a_wrong_array_is_named(tmp_path: Path, arrays: dict, key: str, value: object, expected: str) -> None:
    wrong = arrays | {key: value}
    assert expected in refusal(mano_files.write(tmp_path / "hand.pkl", mano_files.python_2_pickle(wrong)))


def test_a_missing_key_is_named(tmp_path: Path, arrays: dict) -> None:
    del (incomplete := dict(arrays))["hands_mean"]
    assert "'hands_mean' is missing" in refusal(mano_files.write(tmp_path / "hand.pkl", pickle.dumps(incomplete)))


def test_an_archive_of_objects_is_refused(tmp_path: Path, arrays: dict) -> None:
    np.savez(tmp_path / "hand.npz", **(arrays | {"weights": np.array([{}], dtype=object)}))
    assert "allow_pickle" in refusal(tmp_path / "hand.npz")


@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_saved_hands_load_as_they_were(tmp_path: Path, side: str, suffix: str) -> None:
    source = mano_files.write(tmp_path / "source.pkl", mano_files.official_pickle(mano_files.random_arrays(side)))
    hand = HandModel.load(source, fingertips="manopth")
    hand.save(tmp_path / f"saved{suffix}")
    again = HandModel.load(tmp_path / f"saved{suffix}", fingertips="manopth")
    assert again.side == hand.side == side
    assert again.fingerprint == hand.fingerprint


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HandModelError, match=r"\.npz or \.pkl, not as '\.obj'"):
        HandModel.load().save(tmp_path / "hand.obj")


def test_left_shapes_are_corrected_in_x_alone(tmp_path: Path) -> None:
    arrays = mano_files.random_arrays("left")
    path = mano_files.write(tmp_path / "MANO_LEFT.pkl", mano_files.official_pickle(arrays))
    corrected, as_distributed = HandModel.load(path), HandModel.load(path, correct_left_shapes=False)
    assert_holds(as_distributed, arrays)
    np.testing.assert_array_equal(corrected.shape_directions[:, 0], -arrays["shapedirs"][:, 0])
    np.testing.assert_array_equal(corrected.shape_directions[:, 1:], arrays["shapedirs"][:, 1:])
    assert corrected.fingerprint != as_distributed.fingerprint


@pytest.mark.parametrize("convention", FINGERTIP_VERTICES)
def test_fingertip_conventions(convention: str) -> None:
    assert tuple(HandModel.load(fingertips=convention).fingertips) == FINGERTIP_VERTICES[convention]


def test_own_fingertips() -> None:
    assert tuple(HandModel.load(fingertips=[1, 2, 3, 4, 5]).fingertips) == (1, 2, 3, 4, 5)
    with pytest.raises(HandModelError, match="did you mean 'manopth'"):
        HandModel.load(fingertips="manopt")
    with pytest.raises(HandModelError, match=r"fingertips: expected 5 vertices, thumb to pinky, got 2"):
        HandModel.load(fingertips=[1, 2])
    with pytest.raises(HandModelError, match="expected vertices 0 to 777, found 1 to 778"):
        HandModel.load(fingertips=[1, 2, 3, 4, 778])


def test_the_fingerprint_tells_hands_apart() -> None:
    hand = HandModel.load()
    assert replace(hand, name="other").fingerprint == hand.fingerprint
    assert replace(hand, pose_mean=hand.pose_mean + 1e-12).fingerprint != hand.fingerprint
    assert replace(hand, side="left").fingerprint != hand.fingerprint
    assert HandModel.load(fingertips="smplx").fingerprint != hand.fingerprint


def _opcodes(path: Path) -> list:
    return list(pickletools.genops(path.read_bytes()))
