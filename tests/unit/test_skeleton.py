from hamr_lightning import skeleton


def test_joints_run_from_base_to_tip():
    assert skeleton.JOINT_NAMES[0] == "wrist"
    assert skeleton.JOINT_NAMES[4] == "thumb_tip"
    assert skeleton.JOINT_NAMES[17:] == ("pinky_1", "pinky_2", "pinky_3", "pinky_tip")
    assert skeleton.FINGERTIPS == (4, 8, 12, 16, 20)
    assert skeleton.PARENTS == (-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)
    assert skeleton.BONES[:5] == ((0, 1), (1, 2), (2, 3), (3, 4), (0, 5))


def test_mano_joints_and_tips_map_to_joints_of_the_same_name():
    tips = [f"{finger}_tip" for finger in ("thumb", "index", "middle", "ring", "pinky")]
    mano = [*skeleton.MANO_JOINT_NAMES, *tips]
    assert tuple(mano[i] for i in skeleton.MANO_TO_JOINTS) == skeleton.JOINT_NAMES


def test_mano_parents_follow_each_finger():
    for joint, parent in enumerate(skeleton.MANO_PARENTS[1:], start=1):
        name, parent_name = skeleton.MANO_JOINT_NAMES[joint], skeleton.MANO_JOINT_NAMES[parent]
        finger, number = name.rsplit("_", 1)
        assert parent_name == ("wrist" if number == "1" else f"{finger}_{int(number) - 1}")
