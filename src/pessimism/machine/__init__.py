"""What this computer has, and how a process starts and ends: disk, memory, GPUs, the hub, processes that share a
training.

Knows nothing of the experiment.
"""
