"""Unfolded events and spectra for publication: rows, their files, spectra with covariance, HEPData."""
