"""The online phase: roll-outs, the loss, updates, and what is measured on the way.

Knows nothing of gaps, claims or figures.
"""
