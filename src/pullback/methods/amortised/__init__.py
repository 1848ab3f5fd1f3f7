"""Methods that are trained once on pairs."""
