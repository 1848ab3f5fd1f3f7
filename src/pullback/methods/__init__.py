"""Methods: one life cycle, one file each."""
