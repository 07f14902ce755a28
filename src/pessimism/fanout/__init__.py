"""Cells as jobs of a cluster or of this machine's GPUs, and stages side by side on this machine."""
