"""Nouns and their rules: pure, no I/O."""
