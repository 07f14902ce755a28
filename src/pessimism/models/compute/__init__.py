"""Passes through a model: batches, log-probs, generation, and what saves work without changing a number."""
