"""The offline phase: reference log-probs, the grid of betas, training by an objective of ``objectives``.

Knows nothing of the online phase.
"""
