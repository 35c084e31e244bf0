"""Re-ageing of pictures with a trained generator; nothing of Lightning or W&B is imported here."""
