"""Cells of matrix stages as jobs of a scheduler, each in a clone, and their results back through the DVC remote."""
