"""Figures, tables and the page that shows them.

Computes no measure and no test of its own.
"""
