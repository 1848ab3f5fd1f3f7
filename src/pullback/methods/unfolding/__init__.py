"""Methods that give the distribution of the truth of an ensemble, and no posterior of an event."""
