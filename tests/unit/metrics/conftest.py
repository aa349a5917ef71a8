"""Random hands, masks and cameras, of which some samples lack this or that."""

import pytest
import torch


@pytest.fixture(scope="session")
def joints():
    """Predicted, annotated (both with a root that is not at 0) and valid joints of 12 samples; two have no root."""
    generator = torch.Generator().manual_seed(3)
    annotated = torch.randn(12, 21, 3, generator=generator) * 0.05 + 0.3
    predicted = annotated * 1.2 + torch.randn(12, 21, 3, generator=generator) * 0.02
    valid = torch.rand(12, 21, generator=generator) > 0.2
    valid[:, 0] = True
    valid[[2, 7], 0] = False
    return predicted, annotated, valid


@pytest.fixture(scope="session")
def vertices():
    """Predicted and annotated vertices of 12 samples, 9 of them valid."""
    generator = torch.Generator().manual_seed(5)
    annotated = torch.randn(12, 60, 3, generator=generator) * 0.02
    predicted = annotated + torch.randn(12, 60, 3, generator=generator) * 0.004
    return predicted, annotated, torch.arange(12) % 4 != 1


@pytest.fixture(scope="session")
def masks():
    generator = torch.Generator().manual_seed(4)
    annotated = (torch.rand(12, 16, 16, generator=generator) > 0.4).float()
    predicted = torch.rand(12, 8, 8, generator=generator)
    return predicted, annotated, torch.rand(12, generator=generator) > 0.3


@pytest.fixture(scope="session")
def cameras():
    """Predicted and annotated cameras of 12 samples; three have no annotation."""
    generator = torch.Generator().manual_seed(6)
    annotated = torch.tensor([9.0, 0.01, -0.02]) + torch.randn(12, 3, generator=generator) * torch.tensor([1, 0.1, 0.1])
    predicted = annotated + torch.randn(12, 3, generator=generator) * torch.tensor([1, 0.02, 0.02])
    annotated[[1, 5, 6]] = torch.nan
    return predicted, annotated
