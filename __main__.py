"""``python -m purveyor`` and the console script ``purveyor``."""

from __future__ import annotations


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    from .entrypoints.cli import run

    run()


if __name__ == "__main__":
    main()
