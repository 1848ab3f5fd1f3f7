"""Evaluation: distances, calibration, image scores, truth-free checks, with sampling floors and bootstrap intervals."""
