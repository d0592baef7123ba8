"""The model in memory: one frozen backbone, any number of independent heads."""

from medusa_core.model.medusa_model import MedusaModel, Result
from medusa_core.model.opening import open_model

__all__ = ["MedusaModel", "Result", "open_model"]
