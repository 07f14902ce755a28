"""Whether the instrument measures what it says, tried on the models of a finished run."""
