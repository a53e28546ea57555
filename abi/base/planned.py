"""What a run was planned by, told to its jobs by an environment variable.

A job of a cluster plans again, from the code and the configuration that are there when it starts. What it then wrote
would pass for what the run was planned to write; so it compares the two, and refuses.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from abi.base.errors import ConfigError, TamperError
from abi.base.files import sha256_file, sha256_json

PLANNED = "ABI_PLANNED"
"""Environment variable: JSON of the digest of the configuration, and of the code of every rule by its files."""
CONFIG = "config"


def begin(root: Path) -> None:
    """Note the configuration of a checkout as that of a run that is planned now."""
    os.environ[PLANNED] = json.dumps({CONFIG: _digest(root)})


def note(files: Sequence[str], code: str) -> None:
    """Note the digest of the code that starts at some files."""
    os.environ[PLANNED] = json.dumps({**_told(), " ".join(files): code})


def check_config(root: Path) -> None:
    """Raise ConfigError where the configuration is not that of the run that this process belongs to."""
    if _told().get(CONFIG) not in (None, _digest(root)):
        raise ConfigError("config: changed after the run was planned; run the same command again")


def check_code(files: Sequence[str], expected: str, code: str) -> None:
    """Raise TamperError where code is not what a run was planned by. Args: expected: by the plan of this process."""
    if not code == expected == _told().get(" ".join(files), expected):
        raise TamperError(f"{files[0]}: the code changed after the workflow was planned; run the same command again")


def _told() -> dict[str, str]:
    """Return what was noted, nothing where no run was planned."""
    found: dict[str, str] = json.loads(os.environ.get(PLANNED, "{}"))
    return found


def _digest(root: Path) -> str:
    files = sorted((root / "config").rglob("*.yaml"))
    return sha256_json({path.relative_to(root).as_posix(): sha256_file(path) for path in files})[:20]
