"""The reward ensemble: training, assessment and scoring.

Knows no policy.
"""
