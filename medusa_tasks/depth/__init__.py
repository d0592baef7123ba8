"""Metric depth."""
