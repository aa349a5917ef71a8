"""Evaluation: what is measured of each sample, what a protocol makes of it, and the files that are left."""

from hamr_lightning.evaluation.evaluate import Evaluation, Sample, evaluate
from hamr_lightning.evaluation.measures import MEASURES, Measure
from hamr_lightning.evaluation.protocols import PROTOCOLS, Figure, Plot, Protocol

__all__ = ["MEASURES", "PROTOCOLS", "Evaluation", "Figure", "Measure", "Plot", "Protocol", "Sample", "evaluate"]
