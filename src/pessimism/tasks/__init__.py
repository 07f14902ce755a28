"""Verifiable problems and how an answer is judged, one file per kind of task.

Knows no model and no reward model.
"""
