"""From a dataset folder to training pairs."""
