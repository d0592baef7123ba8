"""PASCAL-Context for several tasks (PASCAL_MT)."""
