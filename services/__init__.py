"""Use cases over families."""
