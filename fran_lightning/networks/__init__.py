"""Generators, the discriminator and their weight files. Nothing here knows of Lightning or W&B."""
