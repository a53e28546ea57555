"""Write envs/requirements.lock (all versions and hashes but torch's) and envs/abi.yaml (the same pins for conda).

Usage: make lock   (installs pip-tools in a throw-away environment; needs the package index)
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HEADER = "# Made by `make lock` from requirements.in. torch stands in torch.txt: its build, and so its hash, differs by platform.\n"


def main() -> None:
    """Compile the lock and derive the conda environment."""
    lock = HERE / "requirements.lock"
    command = ["pip-compile", "-q", "--generate-hashes", "--allow-unsafe", "--unsafe-package", "torch", "--strip-extras",
               "--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links", "--no-header", "--no-annotate",
               "--output-file", str(lock), str(HERE / "requirements.in"), str(HERE / "torch.txt")]  # fmt: skip
    subprocess.run([sys.executable, "-m", "piptools", "compile", *command[1:]], check=True)
    text = re.sub(r"(?ms)^torch==.*?(?=^\S|\Z)", "", lock.read_text(encoding="utf-8"))
    text = re.sub(r"(?m)^#.*\n", "", text).strip() + "\n"
    lock.write_text(HEADER + text, encoding="utf-8")
    pins = [
        *re.findall(r"(?m)^([A-Za-z0-9._-]+==[^\s;\\]+)", text),
        (HERE / "torch.txt").read_text(encoding="utf-8").strip(),
    ]
    lines = ["name: abi", "channels: [conda-forge]", "dependencies:", "  - python=3.11", "  - pip", "  - pip:"]
    (HERE / "abi.yaml").write_text("\n".join([*lines, *(f"      - {pin}" for pin in pins)]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
