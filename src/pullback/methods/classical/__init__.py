"""Classical and reference methods without training."""
