"""What a scale will take in memory, hours and money, counted without loading a model."""
