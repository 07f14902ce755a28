"""What several test files build their cases from."""
