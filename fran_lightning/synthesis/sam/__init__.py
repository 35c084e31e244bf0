"""Training data by SAM: StyleGAN2 draws a face, SAM re-ages it, in plain PyTorch from the official files."""
