"""The pinhole camera against OpenCV's."""

import cv2
import numpy as np

from hamr_lightning.data.pinhole import FROM_INDICES, camera_matrix, project


def test_projection_is_opencv_s():
    points = np.random.default_rng(0).uniform([-1, -1, 0.5], [1, 1, 2], (7, 21, 3))
    K = camera_matrix(300.0, 310.0, 110.0, 95.0)
    expected, _ = cv2.projectPoints(points.reshape(-1, 3), np.zeros(3), np.zeros(3), K, None)

    np.testing.assert_allclose(project(points, K), expected.reshape(7, 21, 2), rtol=1e-12)


def test_counting_from_a_pixel_s_edge_moves_every_point_by_half_a_pixel():
    points, K = np.array([[0.1, -0.2, 0.7]]), camera_matrix(300.0, 310.0, 110.0, 95.0)

    np.testing.assert_allclose(project(points, K + FROM_INDICES) - project(points, K), [[0.5, 0.5]], atol=1e-12)
