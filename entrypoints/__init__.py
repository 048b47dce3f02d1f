"""What a person or a client touches."""
