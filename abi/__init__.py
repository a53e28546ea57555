"""ABI: train a domain module beside a frozen language model, move it, and judge the move."""

import os as _os

__version__ = "0.1.0"

if "ABI_WARM_SOCKET" in _os.environ:  # a job of a warm run: the libraries that follow are loaded already elsewhere
    from abi import warm as _warm

    _warm.hand_over()
