"""The model folder on disk: layout, reading, committing and checking. Knows files, not modules."""
