"""What is asked and where it lies: parameters, cells, paths, records, random streams, the graph of stages.

Knows nothing of models, rewards or measures; every room above may import it.
"""
