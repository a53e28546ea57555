"""The engine as a library: a light import, lazy public names, declared dependencies, an installed wheel that works elsewhere."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

import abi
from abi.cli.main import PIPELINE

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "torch",
    "numba",
    "transformers",
    "numpy",
    "pandas",
    "scipy",
    "pydantic",
    "yaml",
    "jinja2",
    "typer",
    "snakemake",
}
DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "huggingface_hub": "huggingface-hub",
    "markdown_it": "markdown-it-py",
    "snakemake_interface_logger_plugins": "snakemake-interface-logger-plugins",
}
EXTRAS = {
    "harness": {"abi/api/harness.py"},
    "parquet": {"abi/text/sources.py"},
    "pipeline": {"abi/cli/progress.py", "abi/cli/dry_run.py", "abi/report/crate.py", "abi/report/figures.py"},
}
"""Extra -> the modules that may import what it installs."""


def python(code, *, python=sys.executable, cwd=ROOT, **environment):
    done = subprocess.run(
        [python, "-c", code],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_abi_loads_no_library():
    loaded = python("import abi, sys; print(*sorted(name.partition('.')[0] for name in sys.modules))").split()
    assert HEAVY.isdisjoint(loaded)


def test_every_public_name_is_there():
    assert sorted(abi._HOME) == sorted(abi.__all__)
    for name in abi.__all__:
        assert getattr(abi, name).__module__ == abi._HOME[name], name


def test_a_name_that_is_not_public_is_an_attribute_error_with_the_valid_names():
    with pytest.raises(AttributeError, match="no attribute 'load_bakcbone'; public names: AbiError"):
        _ = abi.load_bakcbone


def test_judging_needs_no_torch():
    loaded = python("import sys; from abi import judge_transfer, read_result; print('torch' in sys.modules)")
    assert loaded.strip() == "False"


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def test_every_import_has_its_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=]", name)[0] for name in project["dependencies"]}
    extra = {
        name: {re.split(r"[<>=\[]", one)[0] for one in asked}
        for name, asked in project["optional-dependencies"].items()
    }
    assert set(extra) == set(EXTRAS)
    assert {name.replace("_", "-") for name in PIPELINE} == extra["pipeline"]  # which a command without them names
    known = set(sys.stdlib_module_names) | {"abi"}
    outside = set()
    for path in (ROOT / "abi").rglob("*.py"):
        own = {one for name, files in EXTRAS.items() if str(path.relative_to(ROOT)) in files for one in extra[name]}
        outside |= {DISTRIBUTIONS.get(name, name) for name in set(imported(path)) - known} - own
    assert outside <= declared, f"not declared: {sorted(outside - declared)}"
    # pip is run and not imported
    assert declared - outside <= {"pip", "tokenizers"}, f"declared for nothing: {sorted(declared - outside)}"


def test_an_installed_wheel_works_in_another_folder(tmp_path):
    wheels, source = tmp_path / "wheels", tmp_path / "source"
    shutil.copytree(ROOT / "abi", source / "abi", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    venv.create(tmp_path / "env", with_pip=False)
    [site] = (tmp_path / "env" / "lib").glob("python*/site-packages")
    [wheel] = wheels.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True, capture_output=True, timeout=300
    )
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "dependencies.pth").write_text(f"{packages}\n", encoding="utf-8")  # what pip would install from the index
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import abi, torch, pathlib; from abi import AbiModule, ModuleConfig, load_module, save_module, read_result\n"
        f"assert pathlib.Path(abi.__file__).is_relative_to({str(site)!r}), abi.__file__\n"
        "module = AbiModule(ModuleConfig(width=8, taps=(0, 1), d_abi=4))\n"
        "print(tuple(module(torch.zeros(1, 3, 2, 8)).shape))\n"
        f"print(read_result({str(ROOT / 'results/reference/tiny/cross_family_nib_results.json')!r}).verdict)"
    )
    shape, verdict = python(code, python=str(tmp_path / "env" / "bin" / "python"), cwd=elsewhere).splitlines()
    assert shape == "(1, 3, 8)"
    assert verdict in {"SUPPORTED", "REFUTED", "INCONCLUSIVE", "VACUOUS"}


def test_a_program_that_uses_the_library_hears_transformers_as_before():
    told = python(
        "import transformers; before = transformers.logging.get_verbosity(); from abi import load_backbone; "
        "print(transformers.logging.get_verbosity() == before, transformers.logging.is_progress_bar_enabled())"
    )
    assert told.split() == ["True", "True"]
