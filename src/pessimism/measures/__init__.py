"""Arrays in, numbers out: gaps, trends, intervals, curves over beta.

Knows no file, no parameter and no table of ours; it imports nothing of this package but its errors.
"""
