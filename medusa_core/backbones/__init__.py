"""Backbones: building them, wrapping them, and telling one from another."""
