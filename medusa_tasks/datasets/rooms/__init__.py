"""The data set `rooms`: procedural indoor scenes, ray-cast on the fly, with exact targets.

Every number comes from raw PCG64 integers and IEEE float64 arithmetic limited to + − × ÷ √,
comparisons and rounding, so a sample is bit-identical on every machine and numpy version.
"""
