"""What a checkpoint is like inside: entropy, representations, diversity of its responses.

Knows nothing of what the numbers are compared with.
"""
