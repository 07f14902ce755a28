"""What is refused before a run: parameters, sources and machines that cannot carry it."""
