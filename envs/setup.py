"""The environment in `.venv`: made, finished after a kill, found damaged and made anew. Every word of `make` runs this.

It is ready when `.venv/.ready` stands there, which is written last, and when every pinned distribution has all its
files in the sizes that it recorded: some tenths of a second. Anything else is made anew, from pip's cache where that has
it: half an installed package looks whole to pip.

Usage: python3 envs/setup.py   (any Python from 3.11)
"""

from __future__ import annotations  # an old Python must get as far as the sentence for it

import csv
import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
READY = VENV / ".ready"
PIP = ["-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", "-q"]
INSTALLS = (
    ["--use-pep517", "--require-hashes", "--no-deps", "-r", "envs/requirements.lock"],
    ["-r", "envs/torch.txt"],
    ["--no-deps", "--no-build-isolation", "-e", "."],  # by the setuptools of the lock, not by the newest one
)


def pins() -> dict[str, str]:
    """Return distribution -> pinned version, names as in the names of `.dist-info` folders."""
    text = "".join((ROOT / "envs" / name).read_text(encoding="utf-8") for name in ("requirements.lock", "torch.txt"))
    return {plain(name): version for name, version in re.findall(r"(?m)^([\w.-]+)==([^\s;\\]+)", text)}


def plain(name: str) -> str:
    """Return a distribution's name as it compares."""
    return re.sub(r"[-_.]+", "_", name).lower()


def refusal() -> str | None:
    """Return why nothing can be installed here, in a sentence; None if it can."""
    if sys.version_info < (3, 11):  # noqa: UP036 (whoever calls has another Python)
        return f"Python {sys.version_info[0]}.{sys.version_info[1]} is too old; call `make PYTHON=<a Python from 3.11> ...`"
    odd = re.search(r"[^\w\s./@+,=~()'-]|[\n\t]", str(ROOT))
    if odd:
        return f"{ROOT}: {odd[0]!r} in the path breaks the scripts of an environment; move the checkout"
    if not os.access(str(ROOT), os.W_OK):
        return f"{ROOT}: cannot be written; copy the checkout to where you may write"
    return None


def fault() -> str | None:
    """Return what the environment lacks, in words; None if it is whole."""
    if not VENV.exists():
        return "is not there yet"
    if not READY.exists():
        return "was left unfinished"
    if not (VENV / "bin" / "python").exists():
        return "has lost its Python"
    home = script_home(VENV / "bin" / "snakemake")
    if home != (VENV / "bin").resolve():
        return f"was made for {home}" if home else "has lost its scripts"
    sites = list(VENV.glob("lib/python3.*/site-packages"))
    if len(sites) != 1:
        return "has lost its packages"
    found = {}
    for info in sites[0].glob("*.dist-info"):
        name, _, version = info.name[: -len(".dist-info")].rpartition("-")
        found[plain(name)] = (version, info)
    for name, version in pins().items():
        there, info = found.get(name, ("", None))
        if there.partition("+")[0] != version:
            return f"has {name} of version {there}, not {version}" if there else f"lacks {name}"
        lost = damaged(info)
        if lost:
            return f"has a damaged {name} ({lost})"
    return None if "abi_bench" in found else "lacks abi itself"


def script_home(script: Path) -> Path | None:
    """Return the folder of the Python that a script starts, None if there is no such script."""
    try:
        head = script.read_text(encoding="utf-8")[:500]
    except (OSError, UnicodeDecodeError):
        return None
    path = re.match(r"#!(?:/bin/sh\n'''exec' \"?)?([^\"\n]*/bin)/python", head)
    return Path(path[1]).resolve() if path else None


def damaged(info: Path) -> str | None:
    """Return the first file of a distribution that is not there in the size it recorded; None if all are."""
    try:
        with (info / "RECORD").open(encoding="utf-8", newline="") as handle:
            for name, _, size in csv.reader(handle):
                if size and os.stat(str(info.parent / name)).st_size != int(size):
                    return name
    except OSError as error:
        return Path(error.filename).name
    except ValueError:
        return "RECORD"
    return None


def install() -> None:
    """Make the environment from nothing. Raises: CalledProcessError: a step failed, and is told by itself."""
    print(
        "installing the pinned environment into .venv (900 MB to load and some 2 GB on disk, some minutes)", flush=True
    )
    if READY.exists():
        READY.unlink()
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}  # of setuptools, about folders in the checkout
    for words in INSTALLS:
        subprocess.run([str(VENV / "bin" / "python"), *PIP, *words], cwd=str(ROOT), check=True, env=quiet)


def main() -> int:
    """Leave the environment ready, or say in one sentence why it is not."""
    found = fault()
    if found is None:
        return 0
    why = refusal()
    if why is None and VENV.is_symlink():
        why = f".venv: is a link to an environment that {found}; mend that one, or remove the link"
    if why is None:
        try:
            with open(str(ROOT / ".venv.lock"), "w") as handle:  # for writing, without which NFS gives no lock
                fcntl.flock(handle, fcntl.LOCK_EX)  # a second set-up waits for the first, and finds its work done
                found = fault()
                if found and VENV.exists():
                    print(f"setup: .venv {found}; it is made anew", flush=True)
                if found:
                    install()
                    found = None
                    READY.touch()
                    found = fault()
        except (subprocess.CalledProcessError, OSError) as error:
            why = f"stopped ({error}); free space or look at the message above, then run `make setup` again"
        if why is None and found:
            why = f".venv: {found} after it was made; report this"
    if why is not None:
        print(f"setup: {why}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
