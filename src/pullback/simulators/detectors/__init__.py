"""Detectors: kinds that turn truth jets, or particles, into reconstructed jets."""
