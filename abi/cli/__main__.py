"""`python -m abi.cli`: the same commands as `abi`."""

import sys

from abi.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
