"""Models: loading, precision, adapters, training, and the formulas of the paper that size them.

Knows neither DPO nor rewards nor the online loop.
"""
