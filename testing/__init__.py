"""For tests of those who use or extend Purveyor; applications import none of it."""
