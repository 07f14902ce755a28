"""Disturbances of a run, one at a time, and what they cost: ``python -m benchmarks.chaos``, or ``make chaos``."""
