"""NYUD-v2 for several tasks, in the copies that circulate."""
