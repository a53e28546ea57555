"""ABI: train a domain module beside a frozen language model, move it, and judge the move."""

__version__ = "0.1.0"
