"""Temporary copies of the repository in which the real DAG runs at scale smoke."""

import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from abi.base.digest import DIGESTS, PARSED
from abi.plan.config import load

ROOT = Path(__file__).parents[2]
PARTS = ("abi", "config", "docs", "envs", "profiles", "scripts", "workflow", "CITATION.cff", "Snakefile")


KEPT = Path(".snakemake/abi")
CODE = Path(tempfile.mkdtemp(prefix="abi-code-"), "abi")
"""What the first plan of this process found in the code; later copies of the same code begin with it."""
atexit.register(shutil.rmtree, CODE.parent, ignore_errors=True)


@dataclass
class Copy:
    """A working copy of the repository; `run` calls Snakemake in it."""

    root: Path
    traced: Path | None = None
    """A folder for what the steps of jobs call (`traced/sitecustomize.py`)."""

    def environment(self):
        """Return what Snakemake runs with here."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
        environment |= {
            "OMP_NUM_THREADS": "1",
            "ABI_WARM": "1",
            "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        }
        if self.traced:
            self.traced.mkdir(exist_ok=True)
            environment |= {"ABI_TRACED": str(self.traced), "PYTHONPATH": str(Path(__file__).parent / "traced")}
        return environment

    def run(self, *arguments, check=True, scale="smoke"):
        command = [sys.executable, "-m", "snakemake", *arguments, "--config", f"scale={scale}"]
        done = subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, env=self.environment(), check=False
        )
        for name in (DIGESTS, PARSED):
            if done.returncode == 0 and not (CODE / name).exists() and (self.root / KEPT / name).exists():
                CODE.mkdir(exist_ok=True)
                shutil.copy(self.root / KEPT / name, CODE)
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def planned(self, *targets, scale="smoke"):
        """Return rule -> number of jobs that a dry run plans (targets that only collect are left out)."""
        return self.counted(self.run("-n", *targets, scale=scale).stdout)

    def counted(self, text):
        """Return the same from what a dry run said."""
        stats = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\ntotal", text, re.S)
        rows = (line.split() for line in stats.group(1).splitlines()) if stats else ()
        return {name: int(count) for name, count in rows if name not in {"all", "headline", *self.targets()}}

    def claims(self):
        return yaml.safe_load((self.root / "config/claims.yaml").read_text())["claims"]

    def targets(self, scale="smoke"):
        """Return target -> title of every claim, regime and ladder that a scale can run."""
        found = load(scale, self.root)
        return {name: claim.title for name, claim in (found.claims | found.ladders).items()}

    def edit(self, path, change):
        """Change a YAML file through a function of its content, or a text file through a function of its text."""
        file = self.root / path
        text = file.read_text(encoding="utf-8")
        if path.endswith(".yaml"):
            content = yaml.safe_load(text)
            change(content)
            file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        else:
            file.write_text(change(text), encoding="utf-8")
        return file, text

    def sibling(self, root):
        """Return another copy with the same results, whose edits leave this one alone."""
        shutil.copytree(self.root, root, symlinks=True, copy_function=shutil.copy2)
        return Copy(root)


def fresh_copy(root):
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            root.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, root / part)
    if CODE.exists():
        shutil.copytree(CODE, root / KEPT)
    return Copy(root)


@pytest.fixture(scope="session")
def copied():
    """Makes a copy of the repository in a folder."""
    return fresh_copy


@pytest.fixture
def empty(tmp_path):
    """A copy in which nothing was built."""
    return fresh_copy(tmp_path / "repo")


def small_copy(root):
    """A copy with the headline claims alone, one of them in all regimes: every kind of job but a ladder's."""
    copy = fresh_copy(root)
    kept = ("t5_same_backbone", "t5_to_gpt2")
    copy.edit("config/claims.yaml", lambda c: c.update(claims={name: c["claims"][name] for name in kept}))
    return copy


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A copy in which the headline claims were built at scale smoke, once per session; do not edit it."""
    copy = small_copy(tmp_path_factory.mktemp("built") / "repo")
    copy.run()
    return copy


@pytest.fixture(scope="session")
def again(tmp_path_factory):
    """A second run from nothing, traced, which is killed on its way and then goes on."""
    copy = small_copy(tmp_path_factory.mktemp("again") / "repo")
    copy.traced = copy.root.with_name("traced")
    running = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--config", "scale=smoke"], cwd=copy.root, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True, env=copy.environment(),
    )  # fmt: skip
    while not (copy.root / "results/smoke/backbones/gpt2_medium.json").exists():
        time.sleep(0.5)
        assert running.poll() is None
    time.sleep(6)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    copy.run("--unlock")
    copy.run()
    return copy


@pytest.fixture
def edited(built, tmp_path):
    """A private copy of the built one, with its results and Snakemake's metadata."""
    return built.sibling(tmp_path / "repo")
