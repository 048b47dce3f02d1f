"""Tests of the flashcard family."""
