"""Providers: the engine, and the families of provider types."""
