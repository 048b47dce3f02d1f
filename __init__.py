"""Purveyor supplies an application with its backing services by name."""

from __future__ import annotations

__version__: str

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("purveyor")
    raise AttributeError(f"module 'purveyor' has no attribute {name!r}")
