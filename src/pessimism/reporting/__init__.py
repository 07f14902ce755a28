"""Figures, tables and the page that shows them.

Computes no measure and no test of its own; how often a kept response is hacked is counted for the reader alone.
"""
