"""The bundled universal backbone: weights, record and model card (data files only).

The weights, 5.8 MiB, are in the repository and in the wheel, so that everything works offline.
"""
