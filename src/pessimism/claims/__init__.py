"""What the paper claims, tested: statements, tests, verdicts, and how often these err.

Knows no page and no figure.
"""
