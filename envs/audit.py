"""Known vulnerabilities of the pinned packages, by pip-audit: `python envs/audit.py`, part of `make lint`.

pip-audit stands in an environment of its own (.venv-audit): it is no need of abi, and brings a dozen packages. Where the
advisories cannot be asked, that is said and nothing fails.
"""

import json
import re
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

HERE = Path(__file__).parent
PLACE = HERE.parent / ".venv-audit"
TOOL = "pip-audit==2.10.1"
LOCK, TORCH = HERE / "requirements.lock", HERE / "torch.txt"
ADVISORIES = "https://pypi.org/pypi/{}/{}/json"
"""What pip-audit asks of every package."""


def refusal() -> str:
    """Return why the advisories cannot be asked, "" where they can: a mirror of the index may have none."""
    name, version = re.search(r"(?m)^([\w.-]+)==([^\s;\\]+)", LOCK.read_text(encoding="utf-8")).groups()
    try:
        with urllib.request.urlopen(ADVISORIES.format(name, version), timeout=5) as answer:
            return "" if "vulnerabilities" in json.load(answer) else "it tells of none"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def main() -> int:
    """Return pip-audit's exit code; 0 and a sentence where it cannot run."""
    if reason := refusal():
        print(f"pip-audit: not run, pypi.org gives no advisories ({reason})")
        return 0
    if not (PLACE / "bin" / "pip-audit").is_file():
        venv.create(PLACE, with_pip=True, clear=True)
        if subprocess.run([PLACE / "bin" / "python", "-m", "pip", "install", "-q", TOOL], check=False).returncode:
            print(f"pip-audit: not run, {TOOL} cannot be installed")
            return 0
    words = [PLACE / "bin" / "pip-audit", "--disable-pip", "--progress-spinner", "off"]
    pinned = [["--require-hashes", "-r", LOCK], ["--no-deps", "-r", TORCH]]  # torch is pinned by its version alone
    return max(subprocess.run([*words, *some], check=False).returncode for some in pinned)


if __name__ == "__main__":
    sys.exit(main())
