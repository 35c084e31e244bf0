"""Pretrained eyes that come with the installed packages: detection, alignment, landmarks, age and identity."""
