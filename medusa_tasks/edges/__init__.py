"""Edges of objects."""
