"""Physics simulators: waves, geology, collisions, detectors."""
