"""`make setup`: finished after a kill, damage noticed and made anew, odd paths refused before anything is installed."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINNED = "one==1.0 \\\n    --hash=sha256:00\n"
WRITES = """
import pathlib, sys
site = next(pathlib.Path(sys.prefix).glob("lib/python3.*/site-packages"))
for name, version in {"one": "1.0", "torch": "2.0+cpu", "abi_bench": "0.1"}.items():
    (site / name).mkdir(exist_ok=True)
    (site / name / "a.py").write_text("x = 1")
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "RECORD").write_text(f"{name}/a.py,sha256=0,5\\n{name}/__pycache__/a.pyc,,\\n")
script = pathlib.Path(sys.prefix) / "bin" / "snakemake"
script.write_text(f"#!/bin/sh\\n'''exec' \\"{sys.prefix}/bin/python\\" \\"$0\\"\\n")
"""


@pytest.fixture
def checkout(tmp_path):
    """Make a checkout in a folder of some name; its packages are made in place of those that pip would install."""

    def make(name="abi"):
        root = tmp_path / name
        (root / "envs").mkdir(parents=True)
        shutil.copy(ROOT / "envs" / "setup.py", root / "envs")
        (root / "envs/requirements.lock").write_text(PINNED)
        (root / "envs/torch.txt").write_text("torch==2.0\n")
        spec = importlib.util.spec_from_file_location("setup_of_checkout", root / "envs" / "setup.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.PIP, module.INSTALLS = ["-c"], [[WRITES]]
        return module

    return make


@pytest.fixture
def whole(checkout):
    """A checkout with a whole environment, of which only venv's own packages are missing."""
    module = checkout("it's an abi (2)")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(module.VENV)], check=True)
    subprocess.run([str(module.VENV / "bin" / "python"), "-c", WRITES], check=True)
    module.READY.touch()
    assert module.fault() is None
    return module


def site(module):
    return next(module.VENV.glob("lib/python3.*/site-packages"))


DAMAGE = {
    "file gone": (lambda m: (site(m) / "one/a.py").unlink(), "damaged one .a.py"),
    "file cut": (lambda m: (site(m) / "torch/a.py").write_text("x"), "damaged torch .torch/a.py"),
    "package gone": (lambda m: shutil.rmtree(site(m) / "one-1.0.dist-info"), "lacks one"),
    "no record": (lambda m: (site(m) / "one-1.0.dist-info/RECORD").unlink(), "damaged one .RECORD"),
    "record cut": (lambda m: (site(m) / "one-1.0.dist-info/RECORD").write_text("one/a.py,sha"), "damaged one .RECORD"),
    "another version": (
        lambda m: (site(m) / "one-1.0.dist-info").rename(site(m) / "one-2.0.dist-info"),
        "has one of version 2.0, not 1.0",
    ),
    "no packages": (lambda m: shutil.rmtree(m.VENV / "lib"), "lost its packages"),
    "no python": (lambda m: (m.VENV / "bin/python").unlink(), "lost its Python"),
    "no scripts": (lambda m: (m.VENV / "bin/snakemake").unlink(), "lost its scripts"),
    "moved": (lambda m: (m.VENV / "bin/snakemake").write_text("#!/old place/.venv/bin/python\n"), "was made for /old"),
    "killed half-way": (lambda m: m.READY.unlink(), "was left unfinished"),
    "nothing": (lambda m: shutil.rmtree(m.VENV), "not there yet"),
    "no abi": (lambda m: shutil.rmtree(site(m) / "abi_bench-0.1.dist-info"), "lacks abi itself"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_noticed(whole, damage):
    harm, words = DAMAGE[damage]
    harm(whole)
    assert re.search(words, whole.fault())


@pytest.mark.long
def test_a_set_up_that_fails_half_way_is_finished_by_the_next(checkout, capfd):
    module = checkout()
    module.INSTALLS = [[WRITES], ["raise SystemExit(3)"]]
    assert module.main() == 2
    assert "run `make setup` again" in capfd.readouterr().err
    assert not module.READY.exists()
    left = site(module) / "left.py"
    left.touch()  # half a package
    module.INSTALLS = [[WRITES]]
    assert module.main() == 0
    assert "was left unfinished; it is made anew" in capfd.readouterr().out
    assert module.READY.exists()
    assert not left.exists()
    assert module.main() == 0
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ['a"b', "a$b", "a:b", "a`b", "a\\b", "a\nb", "a%b"])
def test_a_path_that_breaks_scripts_is_refused_before_anything_is_installed(checkout, capfd, name):
    module = checkout(name)
    assert module.main() == 2
    told = capfd.readouterr().err
    assert "move the checkout" in told
    assert not module.VENV.exists()


def test_an_old_python_is_refused_before_anything_is_installed(checkout, capfd, monkeypatch):
    module = checkout()
    monkeypatch.setattr(module.sys, "version_info", (3, 9, 1))
    assert module.main() == 2
    assert "Python 3.9 is too old" in capfd.readouterr().err
    assert not module.VENV.exists()


def test_an_environment_that_is_a_link_is_never_cleared(whole, checkout, capfd):
    module = checkout("other")
    module.VENV.symlink_to(whole.VENV)
    assert module.main() == 0
    (site(whole) / "one/a.py").unlink()
    assert module.main() == 2
    assert ".venv: is a link" in capfd.readouterr().err
    assert (site(whole) / "torch/a.py").exists()


def test_a_second_set_up_waits_at_a_file_that_is_open_for_writing(checkout, monkeypatch):
    module, locked, faults = checkout(), [], iter(["is not there yet", None])
    monkeypatch.setattr(module, "fault", lambda: next(faults))
    monkeypatch.setattr(module.fcntl, "flock", lambda handle, how: locked.append(handle.writable()))
    assert module.main() == 0
    assert locked == [True]  # NFS locks no other
