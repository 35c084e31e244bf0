"""Face re-ageing for photos and film (FRAN) in PyTorch Lightning."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fran-lightning")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0.0.0"
