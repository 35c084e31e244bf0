"""How good a trained network is, in numbers."""
