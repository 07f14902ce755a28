"""What a scale will take in memory, hours and money, counted from sizes alone: no model, no torch, no GPU."""
