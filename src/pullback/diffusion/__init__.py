"""Probability paths, denoisers and the default training loop."""
