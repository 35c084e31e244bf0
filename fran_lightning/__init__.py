"""Face re-ageing for photos and film (FRAN) in PyTorch Lightning."""
