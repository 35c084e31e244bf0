"""Generators as files for other programs. Nothing here knows of Lightning or W&B."""
