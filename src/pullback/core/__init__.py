"""Utilities without domain knowledge: atomic files, addressed random generators, stopping, logs, optional imports."""
