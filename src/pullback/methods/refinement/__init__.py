"""Refinement: the prior of one set of observations, fitted to it by expectation maximisation on particles."""
