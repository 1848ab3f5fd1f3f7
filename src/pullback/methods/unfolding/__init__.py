"""Baselines of the unfolding literature, each in a file of its own."""
