"""What every part builds on: atomic files, addressed random generators, stopping, logs, optional imports."""
