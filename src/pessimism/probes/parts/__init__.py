"""What probes are made of: the declaration, what they may read, and the run of all of them on a checkpoint."""
