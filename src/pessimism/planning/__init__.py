"""What a run will need, found without loading a weight: sizes and work by tracing, hours and cost by assumptions."""
