"""Methods that estimate the distribution of the truth: binned unfolding and reweighting of a simulation."""
