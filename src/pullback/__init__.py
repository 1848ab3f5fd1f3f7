"""pullback: ensemble inverse problems, from simulators to posteriors and per-prior generalisation reports."""

__version__ = "0.1.0"
