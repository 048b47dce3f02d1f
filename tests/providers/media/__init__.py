"""Media providers."""
