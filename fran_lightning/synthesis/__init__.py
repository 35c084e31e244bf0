"""Longitudinal training data: the same face at many ages."""
