"""Metrics of posteriors and of distributions: with sampling floors and intervals in a workflow, or on plain arrays."""

from pullback.metrics.metric import Metric

__all__ = ["Metric"]
