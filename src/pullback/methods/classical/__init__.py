"""References that learn nothing."""
