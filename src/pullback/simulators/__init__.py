"""Waves, geology, collisions, detectors; no learning code."""
