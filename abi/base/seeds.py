"""Seeds of random draws, derived from what they are for."""

import hashlib


def derive_seed(*parts: object) -> int:
    """Return a 31-bit seed of names and numbers: seeds of different roles share nothing."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:4], "big") >> 1
