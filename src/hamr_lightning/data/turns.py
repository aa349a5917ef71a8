"""Single rotations for compiled code: matrices and axis-angle vectors (radians), float64.

For batches, and in PyTorch, see :mod:`hamr_lightning.rotations`.
"""

import math
from typing import no_type_check

import numpy as np

from hamr_lightning.compiled import compiled


@compiled()
@no_type_check
def rotation_matrix(vector):
    """Return the 3 x 3 matrix of an axis-angle vector (Rodrigues' formula)."""
    x, y, z = vector
    squared = x * x + y * y + z * z
    angle = math.sqrt(squared)
    # sin(a) / a and (1 - cos(a)) / a**2, the latter without cancellation; below 1e-8 they are 1 and 1/2.
    sine = math.sin(angle) / angle if angle > 1e-8 else 1.0
    half = math.sin(angle / 2) / angle if angle > 1e-8 else 0.5
    versine = 2 * half * half
    matrix = np.empty((3, 3))
    matrix[0, 0] = 1 - versine * (y * y + z * z)
    matrix[1, 1] = 1 - versine * (x * x + z * z)
    matrix[2, 2] = 1 - versine * (x * x + y * y)
    matrix[0, 1], matrix[1, 0] = versine * x * y - sine * z, versine * x * y + sine * z
    matrix[0, 2], matrix[2, 0] = versine * x * z + sine * y, versine * x * z - sine * y
    matrix[1, 2], matrix[2, 1] = versine * y * z - sine * x, versine * y * z + sine * x
    return matrix


@compiled()
@no_type_check
def rotation_vector(matrix):
    """Return a rotation matrix as an axis-angle vector of at most a half turn, by way of the unit quaternion."""
    trace = matrix[0, 0] + matrix[1, 1] + matrix[2, 2]
    quaternion = np.empty(4)
    # The greatest of the four components is found first: it is at least 1/2, and the others are divided by it.
    greatest = max(trace, matrix[0, 0], matrix[1, 1], matrix[2, 2])
    if greatest == trace:
        i, j, k = 0, 1, 2
        quaternion[3] = 1 + trace
        quaternion[0] = matrix[2, 1] - matrix[1, 2]
        quaternion[1] = matrix[0, 2] - matrix[2, 0]
        quaternion[2] = matrix[1, 0] - matrix[0, 1]
    else:
        i = 0 if greatest == matrix[0, 0] else (1 if greatest == matrix[1, 1] else 2)
        j, k = (i + 1) % 3, (i + 2) % 3
        quaternion[i] = 1 - trace + 2 * matrix[i, i]
        quaternion[j] = matrix[j, i] + matrix[i, j]
        quaternion[k] = matrix[k, i] + matrix[i, k]
        quaternion[3] = matrix[k, j] - matrix[j, k]
    if quaternion[3] < 0:
        quaternion = -quaternion
    sine = math.sqrt(quaternion[0] ** 2 + quaternion[1] ** 2 + quaternion[2] ** 2)
    if sine < 1e-12 * quaternion[3]:
        return 2 / quaternion[3] * quaternion[:3]
    return 2 * math.atan2(sine, quaternion[3]) / sine * quaternion[:3]


@compiled()
@no_type_check
def turn_between(start, end):
    """Return the matrix of the smallest rotation that turns a unit vector into another, which is not its opposite."""
    x = start[1] * end[2] - start[2] * end[1]
    y = start[2] * end[0] - start[0] * end[2]
    z = start[0] * end[1] - start[1] * end[0]
    cosine = start[0] * end[0] + start[1] * end[1] + start[2] * end[2]
    share = 1 / (1 + cosine)
    matrix = np.empty((3, 3))
    matrix[0, 0] = cosine + share * x * x
    matrix[1, 1] = cosine + share * y * y
    matrix[2, 2] = cosine + share * z * z
    matrix[0, 1], matrix[1, 0] = share * x * y - z, share * x * y + z
    matrix[0, 2], matrix[2, 0] = share * x * z + y, share * x * z - y
    matrix[1, 2], matrix[2, 1] = share * y * z - x, share * y * z + x
    return matrix


@compiled()
@no_type_check
def multiply(left, right):
    """Return the product of two 3 x 3 matrices; BLAS would take longer to call."""
    product = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            product[i, j] = left[i, 0] * right[0, j] + left[i, 1] * right[1, j] + left[i, 2] * right[2, j]
    return product
