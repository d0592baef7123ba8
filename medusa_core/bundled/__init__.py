"""The bundled universal backbone: weights, record and model card (data files only)."""
