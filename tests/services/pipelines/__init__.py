"""Tests of the media pipelines."""
