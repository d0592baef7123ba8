"""Networks that multi-task papers compare with, from their published layer lists, our own code."""
