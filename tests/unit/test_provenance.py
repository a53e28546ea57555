import ast
import gzip
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors import SafetensorError

import abi.base.definitions as definitions_module
import abi.base.digest as digest_module
import abi.base.job as job_module
import abi.base.planned as planned_module
from abi.base.digest import OUTSIDE_DIGEST, code_digest
from abi.base.errors import ConfigError, DataError
from abi.base.files import (
    ROOT,
    atomic_path,
    require_folder,
    sha256_file,
    sha256_json,
    sha256_tensors,
    write_tensors,
    write_text,
)
from abi.base.job import Job, code_of, job, progress, share_paths
from abi.base.manifests.modules import ModuleManifest
from abi.base.manifests.texts import TextManifest
from abi.base.regimes import REGIMES
from abi.base.typed import Typed, seal_of

SCRIPT = "scripts/job.py"
TREE = {
    SCRIPT: "from abi import top\ntop.f()\n",
    "abi/__init__.py": "",
    "abi/top.py": "from abi.base.errors import E\ndef f():\n    from abi.deep import g\n    return g()\n",
    "abi/deep.py": 'def g():\n    """Return one."""\n    return 1  # one\n',
    "abi/base/errors.py": "class E(Exception):\n    pass\n",
    "abi/unreached.py": "X = 1\n",
}


@pytest.fixture
def digest(tmp_path):
    """Digest of the mini package with some files replaced, each time under a new root."""

    def of(edits=None, *starts):
        root = tmp_path / tempfile.mkdtemp(dir=tmp_path)
        for name, text in (TREE | (edits or {})).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        return code_digest(*(starts or (SCRIPT,)), root=root)

    return of


def test_the_digest_of_known_code_is_fixed(digest):
    assert digest() == "0730d0a71a40e3a77de7"


def test_the_digest_is_blind_to_comments_and_docstrings(digest):
    other = '"""Module."""\n# comment\ndef g():\n    """Say something else,\n    in two lines."""\n    return 1\n'
    assert digest({"abi/deep.py": other}) == digest()


def test_the_digest_is_blind_to_attribute_docstrings(digest):
    assert digest({"abi/deep.py": 'X = 1\n"""What X is."""\n'}) == digest({"abi/deep.py": "X = 1\n"})


@pytest.mark.parametrize(
    "code", ["def g(): return 1\n", "def g(\n):\n    return (\n        1\n    )\n", "def g():\n\treturn 0x1;\n"]
)
def test_reformatted_code_has_the_same_digest(digest, code):
    assert digest({"abi/deep.py": code}) == digest()


@pytest.mark.parametrize("value", ["2", "True", "1.0", "-1", "None", "'1'", "b'1'", "(1,)", "[1]"])
def test_an_edit_in_a_transitively_imported_module_changes_the_digest(digest, value):
    assert digest({"abi/deep.py": f"def g():\n    return {value}\n"}) != digest()


def test_an_edit_of_the_script_changes_the_digest(digest):
    assert digest({SCRIPT: "from abi import top\ntop.f(1)\n"}) != digest()


def test_moved_code_changes_the_digest(digest):
    moved = {"abi/top.py": TREE["abi/top.py"].replace("deep", "moved"), "abi/moved.py": TREE["abi/deep.py"]}
    assert digest(moved) != digest()


def test_an_edit_of_a_module_nothing_imports_changes_no_digest(digest):
    assert digest({"abi/unreached.py": "X = 2\n"}) == digest()


USER = "from abi.deep import g\nfrom abi import deep\nimport abi.deep as other\n"
REACHES = {
    "a constant that a function reads": ("deep.g()", "A = {}\ndef g():\n    return A\n"),
    "a function that a function calls": ("g()", "def f():\n    return {}\ndef g():\n    return f()\n"),
    "a default": ("g()", "A = {}\ndef g(a=A):\n    return a\n"),
    "a base of a class": ("g()", "class A:\n    x = {}\nclass g(A):\n    pass\n"),
    "a decorator": ("g()", "def d(f):\n    return {}\n@d\ndef g():\n    return 1\n"),
    "what a decorator may enter in a table": ("g()", "T = []\nd = T.append\n@d\ndef f():\n    return {}\ng = 1\n"),
    "a type by its name": ("g()", "class A:\n    x = {}\nclass g:\n    a: 'list[A] | None' = None\n"),
    "an attribute of a module": ("other.g", "A = {}\ndef g():\n    return A\n"),
    "any part of a module that is handed on": ("print(deep)", "A = {}\n"),
    "what a module does when it is loaded": ("1", "A = []\nA.append({})\n"),
    "what it does to a table of its own": ("1", "A = dict()\nB = A.setdefault(1, {})\n"),
    "a loop": ("1", "A = []\nfor i in range({}):\n    A += [i]\n"),
    "either of two definitions": ("g()", "try:\n    g = {}\nexcept ValueError:\n    g = 2\n"),
    "a name without a definition that is known": ("g()", "A = {}\ndef __getattr__(name):\n    return globals()['A']\n"),
    "an import of its own": ("g()", "def g():\n    from abi.far import A\n    return A\n", "A = {}\n"),
    "what a module hands on": ("g()", "from abi.far import A as g\n", "A = {}\n"),
    "all that a star names": ("g()", "from abi.far import *\n", "g = {}\n"),
    "a module of a module": ("g()", "from abi import far\ndef g():\n    return far.A\n", "A = {}\n"),
    "what the package of a module does": ("g()", "from abi.pack.part import A as g\n", "", ("1", "2"), "__init__"),
    "what stands beside imports for types": (
        "A",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import os\nelse:\n    A = {}\n",
    ),
    "a name that an expression binds": ("A", "B = [(A := {})]\n"),
    "what an assignment does beside": ("A", "A = []\n_ = A.insert(0, {})\n"),
    "what a body of a class does": ("A", "A = []\nclass B:\n    A.append({})\n"),
    "a type by its name in an alias": ("g", "class A:\n    x = {}\ng = dict[str, 'A']\n"),
    "what a star hands on inside": ("g()", "from abi.far import *\ndef g():\n    return h()\n", "h = {}\n"),
    "all of a module with a star": ("print(deep)", "from abi.far import *\nA = {}\n"),
    "files that another package lists": (
        "g()",
        "from pkgutil import iter_modules\nfrom abi import pack\ndef g():\n    return iter_modules(pack.__path__)\n",
        "",
        ("1", "2"),
        "part",
    ),
    "modules that import each other": (
        "g()",
        "import abi.far as far\ndef g():\n    return far.A\n",
        "import abi.deep as deep\nA = {}\n",
    ),
    "a library": ("g()", "import {} as x\ndef g():\n    return x\n", "", ("json", "ast")),
}
SPARES = {
    "a function that nothing calls": ("g()", "def f():\n    return {}\ndef g():\n    return 1\n"),
    "a constant that nothing reads": ("deep.g()", "A = {}\ndef g():\n    return 1\n"),
    "one of two names that are bound together": ("g()", "A, B = {}, 1\ndef g():\n    return B\n"),
    "another attribute of a module": ("other.g", "A = {}\ndef g():\n    return 1\n"),
    "what a module that is handed on does not use": ("g()", "from abi.far import A as g\n", "A, B = 1, {}\n"),
    "another attribute of a module of a module": (
        "g()", "from abi import far\ndef g():\n    return far.A\n", "A = 1\nB = {}\n",
    ),
    "a type that is imported for annotations and not used": (
        "g()", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from abi.far import B\ng = 1\n", "B = {}\n",
    ),
}  # fmt: skip


def both_digests(digest, uses, deep, far="", values=("1", "2"), in_package=""):
    """The digests of code that uses `abi.deep` before and after one value of it, `abi.far` or `abi.pack` is edited."""
    user = f"{USER}def run():\n    return {uses}\n"
    start = {SCRIPT: "from abi.user import run\nrun()\n", "abi/user.py": user}
    edited = [{"abi/deep.py": deep.replace("{}", value), "abi/far.py": far.replace("{}", value)} for value in values]
    for files, value in zip(edited, values, strict=True):
        pack = {"__init__": "", "part": "A = 1\n"} | (
            {in_package: f"X = []\nX.append({value})\n"} if in_package else {}
        )
        files |= {f"abi/pack/{name}.py": text for name, text in pack.items()}
    return [digest(start | files) for files in edited]


def test_a_package_that_imports_its_own_modules_is_followed(digest):
    edits = {SCRIPT: "from abi.pack import part\npart.f()\n", "abi/pack/__init__.py": "from . import part\n"}
    before, after = (digest(edits | {"abi/pack/part.py": f"def f():\n    return {value}\n"}) for value in (1, 2))
    assert before != after


@pytest.mark.parametrize("case", REACHES)
def test_the_digest_reaches(digest, case):
    before, after = both_digests(digest, *REACHES[case])
    assert before != after


@pytest.mark.parametrize("case", SPARES)
def test_the_digest_spares(digest, case):
    before, after = both_digests(digest, *SPARES[case])
    assert before == after


def test_two_names_that_are_swapped_change_the_digest(digest):
    deep = "def f():\n    return {}\ndef g():\n    return 2\n"
    user = "from abi.deep import {}\ndef run():\n    return one(), two()\n"
    start = {SCRIPT: "from abi.user import run\nrun()\n", "abi/deep.py": deep}
    found = {
        digest(start | {"abi/user.py": user.format(names)}) for names in ("f as one, g as two", "g as one, f as two")
    }
    assert len(found) == 2


@pytest.mark.parametrize("module", sorted(OUTSIDE_DIGEST - {"abi"}))
def test_modules_that_hold_messages_stay_out_of_the_digest(digest, module):
    path = module.replace(".", "/") + ".py"
    script = {SCRIPT: f"import {module}\n"}
    assert digest(script | {path: "A = 1\n"}) == digest(script | {path: "A = 2\n"})


@pytest.mark.parametrize(
    "line",
    [
        "import abi.deep",
        "import abi.deep as d",
        "from abi import deep",
        "from abi.deep import g",
        "from abi import x, deep",
    ],
)
def test_every_form_of_import_is_followed(digest, line):
    script = {SCRIPT: line + "\n"}
    assert digest(script) != digest(script | {"abi/deep.py": "def g():\n    return 2\n"})


def test_an_edit_of_a_package_init_changes_the_digest(digest):
    script = {SCRIPT: "from abi import pack\n"}
    assert digest(script | {"abi/pack/__init__.py": "A = 1\n"}) != digest(script | {"abi/pack/__init__.py": "A = 2\n"})


def test_relative_imports_are_followed(digest):
    edits = {"abi/top.py": "from .deep import g\n"}
    assert digest(edits) != digest(edits | {"abi/deep.py": "def g():\n    return 2\n"})


def test_a_digest_of_two_files_covers_what_either_reaches(digest):
    both = digest(None, SCRIPT, "abi/unreached.py")
    assert both != digest()
    assert digest({"abi/unreached.py": "X = 2\n"}, SCRIPT, "abi/unreached.py") != both
    assert digest(None, "abi/unreached.py", SCRIPT) == both


def test_a_package_that_lists_its_files_imports_them_all(digest):
    edits = {SCRIPT: "from abi import kinds\n", "abi/kinds/one.py": "A = 1\n"}
    listing = {"abi/kinds/__init__.py": "import pkgutil\nNAMES = list(pkgutil.iter_modules(__path__))\n"}
    plain = {"abi/kinds/__init__.py": "NAMES = []\n"}
    other = {"abi/kinds/one.py": "A = 2\n"}
    assert digest(edits | listing) != digest(edits | listing | other)
    assert digest(edits | plain) == digest(edits | plain | other)


def test_what_was_parsed_comes_back_from_json_as_it_was():
    for file in (ROOT / "abi").rglob("*.py"):
        source = definitions_module.parsed(file.read_bytes(), file.relative_to(ROOT).parts[:-1], ("words",))
        assert definitions_module.Source.of(json.loads(json.dumps(asdict(source)))) == source, file


def test_a_file_is_parsed_once_for_all_digests(tmp_path, monkeypatch):
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    parsed, parse = [], ast.parse
    monkeypatch.setattr(digest_module, "_known", {})
    monkeypatch.setattr(definitions_module.ast, "parse", lambda text: parsed.append(text) or parse(text))
    for start in (SCRIPT, "abi/top.py", "abi/deep.py", SCRIPT):
        code_digest(start, root=tmp_path)
    assert sorted(parsed) == sorted(TREE[name].encode() for name in (SCRIPT, "abi/top.py", "abi/deep.py"))


PLANNED = """
import ast, sys
from pathlib import Path
from abi.base.digest import code_digest, remember
parse, parsed = ast.parse, []
ast.parse = lambda text: parsed.append(text) or parse(text)
remember(Path.cwd())
print(code_digest(sys.argv[1], root=Path.cwd()), len(parsed))
"""


@pytest.fixture
def planned(tmp_path):
    """Plans the mini package, in a process of its own: its digest, and how many files were parsed."""
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def plan(code=PLANNED):
        command = [sys.executable, "-P", "-c", code, SCRIPT]  # not the `abi` of the folder
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
        digest, parsed = run.stdout.split()
        return digest, int(parsed)

    return plan


def test_a_later_plan_parses_only_files_whose_contents_are_new(tmp_path, planned):
    first, parsed = planned()
    assert parsed > 1
    assert planned() == (first, 0)
    changed, edited = tmp_path / "abi" / "deep.py", TREE["abi/deep.py"].replace("return 1", "return 2")
    times = changed.stat()
    changed.write_text(edited)
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    second, parsed = planned()
    assert second != first
    assert parsed == 1
    assert planned() == (second, 0)
    odd = '{"a": {"definitions": [], "bindings": {"b": [["c", "d", "e"]]}, "imported": [], "lists": []}}'
    for damaged in ('{"a": 1}', odd, "", "[1]"):
        for name in ("code.json", "digests.json"):
            (tmp_path / name).write_text(damaged)
        assert planned()[0] == second


def test_a_later_plan_of_the_same_code_walks_none_of_it(tmp_path, planned):
    first, _ = planned()
    (tmp_path / "code.json").unlink()
    assert planned() == (first, 0)
    assert not (tmp_path / "code.json").exists()
    for name in (SCRIPT, "abi/deep.py"):
        (tmp_path / name).write_text(TREE[name] + "\nNEW = 1\n")
        changed, _ = planned()
        (tmp_path / name).write_text(TREE[name])
        assert planned()[0] == first
        assert (changed != first) == (name == SCRIPT)


def test_a_parsed_file_with_a_flipped_digit_is_not_believed(tmp_path, planned):
    """With what it says no job would ever be what was planned, whatever is run again."""
    first, _ = planned()
    kept, (path, text) = tmp_path / "code.json", (tmp_path / "abi" / "deep.py", TREE["abi/deep.py"])
    digests = re.findall(r'"[0-9a-f]{64}"', kept.read_text())
    for digest in {*digests}:
        kept.write_text(kept.read_text().replace(digest, f'"{"0" if digest[1] != "0" else "1"}{digest[2:]}'))
        path.write_text(f"{text}\n# read again\n")  # so that the digest itself is not kept
        assert planned()[0] == first
        path.write_text(text)
    assert digests


def test_a_kept_digest_with_a_flipped_digit_is_not_believed(tmp_path, planned):
    first, _ = planned()
    kept = tmp_path / "digests.json"
    assert first in kept.read_text()
    kept.write_text(kept.read_text().replace(first, f"{'0' if first[0] != '0' else '1'}{first[1:]}"))
    assert planned()[0] == first


def test_a_digest_of_code_that_was_edited_meanwhile_is_not_kept(tmp_path, planned):
    edited = """
import sys
from pathlib import Path
from abi.base.digest import code_digest, remember
remember(Path.cwd())
code_digest("abi/unreached.py", root=Path.cwd())
file = Path("abi/deep.py")
text = file.read_text()
file.write_text(text.replace("return 1", "return 2"))
print(code_digest(sys.argv[1], root=Path.cwd()), 0)
file.write_text(text)
"""
    other, _ = planned(edited)
    assert not (tmp_path / "digests.json").exists()
    assert planned()[0] != other


def test_code_behind_a_link_to_a_folder_is_walked_every_time(tmp_path, planned):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "deep.py").write_text(TREE["abi/deep.py"])
    (tmp_path / "abi" / "linked").symlink_to(outside)
    (tmp_path / "abi" / "top.py").write_text(TREE["abi/top.py"].replace("abi.deep", "abi.linked.deep"))
    first, _ = planned()
    assert planned()[0] == first
    (outside / "deep.py").write_text(TREE["abi/deep.py"].replace("return 1", "return 2"))
    assert planned()[0] != first


@pytest.mark.parametrize(
    ("edited", "rerun"),
    [
        ("domain_lesson", {"oracle-kd", "reconstruction"}),
        ("few_shot_lesson", {"few-shot"}),
        ("general_lesson", {"general-only"}),
    ],
)
def test_an_edit_of_a_teacher_reruns_the_calibrations_of_its_own_regimes(tmp_path, edited, rerun):
    def codes(root, extra=""):
        for name in ("domain_lesson", "few_shot_lesson", "general_lesson"):
            (root / "abi" / "arms").mkdir(parents=True, exist_ok=True)
            (root / "abi" / "arms" / f"{name}.py").write_text(f"A = 1\n{extra if name == edited else ''}")
        (root / "abi" / "steps").mkdir(parents=True)
        (root / "abi" / "steps" / "calibrate_arms.py").write_text("B = 1\n")
        return {regime: code_of("calibrate_arms", {"regime": regime}, root) for regime in REGIMES}

    before, after = codes(tmp_path / "a"), codes(tmp_path / "b", "C = 2\n")
    assert {regime for regime in REGIMES if before[regime] != after[regime]} == rerun


def test_atomic_path_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_text(path, "old")
    write_text(path, "näw")
    assert path.read_text(encoding="utf-8") == "näw"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_keeps_the_old_file_and_leaves_no_partial_one(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path, refuses):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with refuses("file.txt: cannot be written .No space left"), atomic_path(path):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_another_file_that_is_missing_is_not_reported_as_unwritable(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "nowhere").read_text()
    with pytest.raises(gzip.BadGzipFile), atomic_path(tmp_path / "a"):
        gzip.decompress(b"no gzip")
    with pytest.raises(ConnectionResetError), atomic_path(tmp_path / "a"):
        raise ConnectionResetError(104, "Connection reset by peer")
    assert list(tmp_path.iterdir()) == []


def test_tensors_that_do_not_fit_the_disk_are_one_sentence(tmp_path, refuses, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with refuses("w.safetensors: cannot be written .*No space left.*; free space"):
        write_tensors(tmp_path / "w.safetensors", {})
    assert list(tmp_path.iterdir()) == []


def test_a_file_or_a_broken_link_where_results_go_is_one_sentence(tmp_path, refuses):
    require_folder(tmp_path / "new" / "tiny")
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("file", "loop"):
        with refuses(f"{name}: is not a folder"):
            require_folder(tmp_path / name / "tiny")


def test_written_files_get_the_usual_mode(tmp_path):
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_a_read_only_folder_is_one_sentence(tmp_path, refuses):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with refuses("make the folder writable"):
            write_text(folder / "file.txt", "x")
    finally:
        os.seteuid(user)


def test_a_file_where_a_folder_is_due_is_one_sentence(tmp_path, refuses):
    (tmp_path / "file").write_text("x")
    with refuses("cannot be written"):
        write_text(tmp_path / "file" / "below.txt", "x")


@pytest.fixture
def valid(facts):
    shape = {"width": 8, "taps": [0], "d_abi": 4, "expansion": 4, "tap_norms": False, "domain_net": True}
    return {"module": shape, "rotated": False, "sha256": "d" * 64, **dict(facts)}


def test_json_comes_back_as_it_was_written(tmp_path, valid):
    ModuleManifest.model_validate(valid).write(tmp_path / "m.json")
    whole = {"format": "abi/module@1", **valid}
    whole["seal"] = seal_of(whole)
    assert json.loads((tmp_path / "m.json").read_text()) == whole
    assert ModuleManifest.read(tmp_path / "m.json").plain() == whole


BREAKS = {
    "extra": {"colour": 1},
    "format": {"format": "abi/module@0"},
    "role": {"role": "teacher"},
    "seed": {"seed": "one"},
    "sha256": {"sha256": "abc"},
    "rotated": {"rotated": None},
}


@pytest.mark.parametrize("change", BREAKS.values(), ids=BREAKS)
def test_a_document_that_breaks_its_model_is_not_read(tmp_path, valid, change, refuses):
    (tmp_path / "m.json").write_text(json.dumps({"format": "abi/module@1", **valid, **change}))
    with refuses("m.json: .*; delete the file and rebuild it"):
        ModuleManifest.read(tmp_path / "m.json")


@pytest.mark.parametrize("change", [change for name, change in BREAKS.items() if name != "format"])
def test_a_document_that_breaks_its_model_is_not_made(valid, change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        ModuleManifest.model_validate(valid | change)


def test_a_missing_key_is_named(tmp_path, valid, refuses):
    del valid["vocabulary"]
    (tmp_path / "m.json").write_text(json.dumps({"format": "abi/module@1", **valid}))
    with refuses("vocabulary"):
        ModuleManifest.read(tmp_path / "m.json")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"{} {}", b"[]", b"null", b'{"a": 1, "a": 1}', b"[" * 99_999]
)
def test_what_is_no_json_document_is_one_sentence(tmp_path, content, refuses):
    (tmp_path / "m.json").write_bytes(content)
    with refuses("m.json: .*rebuild it"):
        ModuleManifest.read(tmp_path / "m.json")


def test_a_missing_document_and_a_folder_are_one_sentence(tmp_path, refuses):
    with refuses("does not exist"):
        ModuleManifest.read(tmp_path / "m.json")
    with refuses("is not readable JSON"):
        ModuleManifest.read(tmp_path)


def text_record(share):
    block = {"rule": "r", "spec": {}, "code": "c", "inputs": {}, "versions": {}, "threads": 1, "elapsed_s": 0.0}
    block |= {"peak_memory_mb": 1.0, "hardware": {}}
    return {
        "splits": {},
        "assignment_sha256": "a" * 64,
        "identifier_share": share,
        "held_out": {},
        "left_out": {},
        "copies": {},
        "provenance": block,
    }


def test_a_figure_that_is_nan_is_refused():
    with pytest.raises(ValidationError, match="identifier_share"):
        TextManifest.model_validate(text_record(float("nan")))


def test_a_nan_in_a_file_is_not_read(tmp_path, refuses):
    document = {"format": "abi/text@1", **text_record(float("nan"))}
    (tmp_path / "t.json").write_text(json.dumps(document))
    with refuses("t.json"):
        TextManifest.read(tmp_path / "t.json")


TENSOR = torch.arange(6, dtype=torch.float32)
CHANGED = {
    "name": {"b": TENSOR},
    "shape": {"a": TENSOR.view(2, 3)},
    "dtype": {"a": TENSOR.view(torch.int32)},
    "one bit": {
        "a": (TENSOR.view(torch.int32) ^ torch.tensor([0, 0, 0, 0, 0, 1], dtype=torch.int32)).view(torch.float32)
    },
    "sign of zero": {"a": torch.cat([torch.tensor([-0.0]), TENSOR[1:]])},
    "one more": {"a": TENSOR, "c": TENSOR[:0]},
    "none": {},
}


@pytest.mark.parametrize("tensors", CHANGED.values(), ids=CHANGED)
def test_the_tensor_hash_sees_every_change(tensors):
    assert sha256_tensors(tensors) != sha256_tensors({"a": TENSOR})


def test_the_tensor_hash_ignores_order_and_memory_layout():
    square = torch.randn(3, 4).T
    assert sha256_tensors({"a": square, "b": TENSOR}) == sha256_tensors({"b": TENSOR, "a": square.contiguous()})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.int64, torch.float64])
def test_the_tensor_hash_takes_every_dtype_and_scalars(dtype):
    assert sha256_tensors({"a": torch.tensor(1).to(dtype)}) != sha256_tensors({"a": torch.tensor(0).to(dtype)})


def test_the_file_hash_is_the_one_of_the_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc" * 1000)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(b"abc" * 1000).hexdigest()


@settings(max_examples=30)
@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_the_json_hash_does_not_depend_on_key_order(value):
    assert sha256_json(value) == sha256_json(dict(reversed(value.items())))


@pytest.fixture
def snakemake(tmp_path, monkeypatch):
    """A job of the mini kind: in a folder of its own, without log handlers, a device and thread limits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_module, "_start_log", lambda *_: None)
    monkeypatch.setattr(job_module, "_placed", lambda *_: nullcontext())
    monkeypatch.setattr(job_module, "code_of", lambda *_: "digest")
    params = SimpleNamespace(code="digest", spec={"seed": 1})
    return SimpleNamespace(log=[], rule="fit", params=params, input=[], threads=1, resources=SimpleNamespace())


def run(snakemake, body=lambda running: None):
    with job(snakemake) as running:
        body(running)


def test_a_job_removes_its_scratch_only_at_success(snakemake):
    kept = []

    def leave(running, error=None):
        running.scratch.mkdir(parents=True, exist_ok=True)
        kept.append(running.scratch)
        if error:
            raise error

    with pytest.raises(SystemExit):
        run(snakemake, lambda running: leave(running, DataError("x")))
    assert kept[0].is_dir()
    run(snakemake, leave)
    assert kept[1] == kept[0]
    assert not kept[0].exists()


def test_a_card_that_is_too_small_is_no_fault_of_abi(snakemake, caplog):
    def fail(running):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has")

    with pytest.raises(SystemExit) as left:
        run(snakemake, fail)
    assert left.value.code == 2
    assert (
        "the card has too little memory (CUDA out of memory); use a card with more, or `precision: bf16`" in caplog.text
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
    ],
)
def test_a_machine_that_is_too_small_is_no_fault_of_abi(snakemake, caplog, error):
    def fail(running):
        raise error

    with pytest.raises(SystemExit) as left:
        run(snakemake, fail)
    assert left.value.code == 2
    assert "there is too little memory (" in caplog.text
    assert "run fewer jobs side by side" in caplog.text


@pytest.mark.parametrize(("gpu", "warned"), [(1, True), (0, False)])
def test_a_job_that_was_given_a_card_says_where_it_computes_without_one(monkeypatch, caplog, gpu, warned):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    with job_module._placed("auto", 1, gpu):
        pass
    torch.use_deterministic_algorithms(before[0])
    torch.set_num_threads(before[1])
    assert ("asks for a card and torch" in caplog.text) is warned


@pytest.mark.parametrize(("error", "code"), [(DataError("no text"), 2), (OSError(28, "full"), 2), (KeyError("bug"), 1)])
def test_a_job_ends_with_2_on_bad_input_and_1_on_a_fault(snakemake, error, code, caplog):
    def fail(running):
        raise error

    with pytest.raises(SystemExit) as caught:
        run(snakemake, fail)
    assert caught.value.code == code
    assert ("Traceback" in caplog.text) == (code == 1)


def test_a_job_refuses_code_that_changed_since_the_plan(snakemake, caplog):
    snakemake.params.code = "older"
    with pytest.raises(SystemExit) as caught:
        run(snakemake)
    assert caught.value.code == 2
    assert "the code changed after the workflow was planned" in caplog.text


def test_a_job_that_planned_again_refuses_code_that_is_not_that_of_its_run(snakemake, caplog, monkeypatch):
    monkeypatch.setattr(planned_module, "_digest", lambda root: "config")
    monkeypatch.delenv(planned_module.PLANNED, raising=False)
    run(snakemake)
    planned_module.begin(ROOT)
    run(snakemake)
    planned_module.note(["abi/steps/other.py"], "another")
    planned_module.note(["abi/steps/fit.py"], "digest")
    run(snakemake)
    planned_module.note(["abi/steps/fit.py"], "older")
    with pytest.raises(SystemExit) as caught:
        run(snakemake)
    assert caught.value.code == 2
    assert "abi/steps/fit.py: the code changed after the workflow was planned" in caplog.text
    planned_module.check_config(ROOT)
    monkeypatch.setattr(planned_module, "_digest", lambda root: "other config")
    with pytest.raises(ConfigError, match="changed after the run was planned; run the same command again"):
        planned_module.check_config(ROOT)
    planned_module.begin(ROOT)
    run(snakemake)


def test_a_missing_package_is_told_in_the_log_of_the_job(snakemake, caplog):
    def load():
        raise ModuleNotFoundError("No module named 'numba'")

    with pytest.raises(SystemExit) as caught, job(snakemake, load):
        pass
    assert caught.value.code == 2
    assert "fit: a package is missing or damaged (No module named 'numba'); run `make setup`" in caplog.text


class OneSeed(Typed):
    seed: int
    share: float = 0.5


def test_a_job_gets_the_model_of_its_step_and_provenance_what_the_rule_gave(snakemake):
    seen = []
    with job(snakemake, lambda: SimpleNamespace(Spec=OneSeed)) as running:
        seen.append((running.spec, running.provenance().spec))
    assert seen == [(OneSeed(seed=1), {"seed": 1})]


def test_a_spec_that_is_not_the_model_of_the_step_is_one_sentence(snakemake, caplog):
    snakemake.params.spec = {"seed": "one"}
    with pytest.raises(SystemExit) as caught, job(snakemake, lambda: SimpleNamespace(Spec=OneSeed)):
        pass
    assert caught.value.code == 2
    assert "the spec is not what the step expects: seed: " in caplog.text


def test_scratch_depends_on_all_that_a_job_depends_on(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("a")
    variants = [
        Job("fit", {"a": 1}, "c", [str(path)], 1),
        Job("fit", {"a": 2}, "c", [str(path)], 1),
        Job("fit", {"a": 1}, "d", [str(path)], 1),
        Job("fit", {"a": 1}, "c", [str(path)], 2),
    ]
    found = {job.scratch for job in variants}
    path.write_text("b")
    found.add(Job("fit", {"a": 1}, "c", [str(path)], 1).scratch)
    assert len(found) == 5


def test_provenance_fits_the_schema(tmp_path):
    (tmp_path / "in").write_text("x")
    block = Job("fit", {"a": 1}, "c", [str(tmp_path / "in"), str(tmp_path)], 1).provenance()
    TextManifest.model_validate(text_record(0.5) | {"provenance": block}).write(tmp_path / "t.json")
    assert block.inputs == {str(tmp_path / "in"): sha256_file(tmp_path / "in")}
    assert block.versions["torch"] == torch.__version__


def test_progress_is_told_at_the_end_and_not_at_every_step(caplog):
    report = progress(50)
    with caplog.at_level("INFO", "abi"):
        for step in range(1, 51):
            report(step, "loss 0.1")
    assert caplog.messages == ["step 50/50 loss 0.1"]


def test_jobs_import_from_this_working_copy_first(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/other", str(tmp_path)]))
    share_paths(tmp_path)
    assert os.environ["PYTHONPATH"] == os.pathsep.join([str(tmp_path), "/other"])


def test_shell_rules_run_the_python_that_plans_them_also_where_no_environment_is_activated(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    share_paths(tmp_path)
    assert os.path.samefile(shutil.which("python"), sys.executable)


def test_half_an_installed_package_is_of_an_unknown_version(monkeypatch):
    """A folder of metadata without a version made every command a traceback."""
    monkeypatch.setattr(job_module.metadata, "version", lambda _: None)
    job_module.versions.cache_clear()
    try:
        assert set(job_module.software_of("judge_claim").values()) == {"unknown"}
    finally:
        job_module.versions.cache_clear()
