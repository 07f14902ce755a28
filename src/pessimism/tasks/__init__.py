"""Verifiable problems, one file per kind of task: where they come from, how they are posed, how an answer is judged.

A scale names its task's file as ``tasks.kind``. What tasks share lies in ``parts``. Knows no model and no reward model.
"""
