"""What the online phase may optimise: one file each, named by ``online.objective`` in params.yaml.

A file defines OBJECTIVE, a :class:`pessimism.online.objective.OnlineObjective`; it knows nothing of the loop.
"""
