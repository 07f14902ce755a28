"""The offline phase: reference log-probs, the grid of betas, DPO.

Knows nothing of the online phase.
"""
