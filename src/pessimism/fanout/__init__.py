"""The cells of a stage as jobs of a cluster or of this machine's GPUs."""
