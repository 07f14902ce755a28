"""The paper's own numbers, and what follows from them without a model."""
