"""From rewards over steps to tables of numbers, for the pipeline's runs and for logs of other trainers.

Knows no claim and no verdict.
"""
