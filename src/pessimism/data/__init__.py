"""Rows: preference pairs, prompts and the world that the project makes itself, read, checked, hashed and split.

Knows no model.
"""
