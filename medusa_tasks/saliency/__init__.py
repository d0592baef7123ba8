"""Salient objects."""
