"""Measures of data and of trained generators."""
