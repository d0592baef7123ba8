"""Data sets that provide targets of the first-party tasks."""
