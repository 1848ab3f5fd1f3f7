"""Outside data to ensembles."""
