"""Where the characters of a text stand in its UTF-8 bytes."""

import numpy as np


def byte_positions(text: str) -> np.ndarray:
    """Return the byte offset `[len(text) + 1]` of each character position."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    sizes = 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
    return np.concatenate([[0], np.cumsum(sizes)])
