"""The abstract silhouette renderer."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class SilhouetteRenderer(nn.Module, ABC):
    """Renders the silhouette of a mesh that is already projected.

    Args of every implementation, beside its own: ``faces``, integers (f, 3), and ``size``, the side of the mask in
    pixels.
    """

    @abstractmethod
    def forward(self, points: Float[Tensor, "b v 3"]) -> Float[Tensor, "b s s"]:
        """Render the mask.

        Args:
            points: Vertices: x and y in crop units, z in any unit (larger is farther).

        Returns:
            Coverage in [0, 1], row 0 at the top (y = -1), differentiable in x and y.
        """
