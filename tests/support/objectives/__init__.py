"""Offline objectives that tests put beside those of the package."""
