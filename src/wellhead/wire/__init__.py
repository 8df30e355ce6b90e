"""Bytes to events and back: no I/O, no clock, no tasks."""
