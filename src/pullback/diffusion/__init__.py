"""Schedules, denoisers, samplers, and the default training loop."""
