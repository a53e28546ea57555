import ast
import gzip
import hashlib
import json
import os
import time
import tracemalloc
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_arms import PROVENANCE, SHARES, edited, source_of, text_spec

from abi.text.corpus import Chosen, build_text, summary
from abi.text.documents import (
    SPLITS,
    Document,
    read_assigned,
    read_documents,
    split_of,
    write_documents,
    write_manifest,
)
from abi.text.extraction import extract, identifier_share, strip_code
from abi.text.sources import find_files


class DropDocstrings(ast.NodeTransformer):
    """The reference: docstrings dropped from the tree instead of from the text."""

    def generic_visit(self, node):
        super().generic_visit(node)
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
        return node


def same_without_docstrings(source):
    code = extract(source, "code", "a.py")
    return ast.dump(ast.parse(code)) == ast.dump(DropDocstrings().visit(ast.parse(source)))


NASTY = {
    "function of a docstring": 'def f():\n    """Doc."""\n',
    "multibyte before": 'é = "日本"; x = 1\nclass A:\n    "é"\n    def f(self): "ü"\n',
    "multibyte on the line": 'def größe(ä="é日"): "ü"\n',
    "one-line class": 'class A: "doc"\n',
    "comment behind": 'def f():\n    """Doc."""  # noqa\n    return 1\n',
    "comment only behind": 'def f():\n    """Doc."""\n    # nothing\n',
    "nested": 'def f():\n    "a"\n    class B:\n        "b"\n        def g(self):\n            "c"\n            return 1\n',
    "async": 'async def f():\n    """a\n\n    b"""\n',
    "blocks": 'try:\n    pass\nexcept E:\n    class A: "d"\nelse:\n    def f(): "d"\nfinally:\n    def g(): "d"\n',
    "match": 'match x:\n    case 1:\n        def f(): "d"\n',
    "decorated": '@d("x")\nclass A(B):\n    "doc"\n    x = 1\n',
    "raw and unicode": 'def f():\n    r"""\\d"""\n    return 1\ndef g():\n    u"x"\n',
    "joined": 'def f():\n    "a" \\\n    "b"\n    return 1\n',
    "tabs": 'def f():\n\t"""d\n\t"""\n',
    "no docstring": 'def f():\n    f"""{1}"""\n    return "x"\ndef g():\n    b"x"\n',
    "second string": 'def f():\n    """a"""\n    """b"""\n',
    "empty": "",
    "module alone": '"""Doc."""\n',
    "hash in a string": "x = '''\n# a\n'''\n",
}  # fmt: skip


@pytest.mark.parametrize("source", NASTY.values(), ids=NASTY)
def test_docstrings_are_cut_and_the_rest_stays_the_same_program(source):
    assert same_without_docstrings(source)


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    "doc"; return 1\n',
        '"""m"""; x = 1\n',
        'def f():\n    "doc";\n    return 1\n',
        'def f():\n    ("doc")\n',
        'def f():\n    ("a"\n     "b")\n    return ()\n',
    ],
)
def test_docstrings_with_brackets_or_semicolons_are_cut_whole(source):
    assert same_without_docstrings(source)


DOC = st.none() | st.text(st.sampled_from("aé日\n'\"\\# :"), max_size=8)
KINDS = st.sampled_from(["def f(a='é'):", "async def f():", "class A:", "if x:", "for x in 'ü':", "with x:"])
BLOCK = st.recursive(st.just([]), lambda inner: st.lists(st.tuples(KINDS, DOC, inner), max_size=3), max_leaves=6)


def program(blocks, indent=""):
    lines = []
    for kind, doc, inner in blocks:
        lines.append(indent + kind)
        lines += [] if doc is None else [indent + "    " + repr(doc)]
        lines += program(inner, indent + "    ") or [indent + "    pass"]
    return lines


@settings(max_examples=60)
@given(BLOCK, DOC)
def test_any_program_loses_its_docstrings_only(blocks, doc):
    assert same_without_docstrings("\n".join([*([] if doc is None else [repr(doc)]), *program(blocks), ""]))


def test_a_cut_docstring_leaves_no_blank_line():
    assert extract('def f():\n    """d\n    """\n    return 1\n', "code", "a.py") == "def f():\n    return 1\n"


def test_code_of_a_file_has_no_licence_header():
    source = '#!/usr/bin/env python\n# Copyright\n\n"""Doc."""\n# of x\n\nx = 1  # one\n'
    assert extract(source, "code", "a.py") == "x = 1  # one\n"


@pytest.mark.parametrize("how", ["code", "prose"])
@pytest.mark.parametrize("source", ["def f(:\n", "x = '\n", "x = 1\0\n", "(" * 5000])
def test_a_file_that_is_no_python_gives_no_text(source, how):
    assert extract(source, how, "a.py") is None


def test_prose_of_python_is_its_docstrings_in_order():
    source = '"""One fish."""\nx = "no"\ndef f():\n    """Two fish.\n\n    Red fish.\n    """\nclass A: "Blue fish."\n'
    assert extract(source, "prose", "a.py") == "One fish.\n\nTwo fish.\n\nRed fish.\n\nBlue fish.\n"


def test_plain_text_is_kept_and_blank_text_is_none():
    assert extract(" é\n\n", "plain", "a.txt") == "é\n"
    assert extract(" \n", "plain", "a.txt") == extract("Words.", "code", "a.txt") == ""


CODE_IN_PROSE = {
    "doctest": ">>> plain\n... words\nanswer",
    "fence": "```python\nplain words\n```",
    "tilde fence": "~~~\nplain words\n~~~",
    "literal block": "Like this::\n\n    plain words\n\n    more plain words",
    "directive": ".. code-block:: sh\n\n    plain words",
    "rst table": "==== ====\n+----+----+",
    "markdown table": "| plain | words |",
    "ruler": "-------",
    "assignment": "x = 1",
    "call": "import os.path(",
}


@pytest.mark.parametrize("block", CODE_IN_PROSE.values(), ids=CODE_IN_PROSE)
def test_prose_loses_code_and_keeps_what_stands_around_it(block):
    text = strip_code(f"Before it.\n\n{block}\n\nAfter it.\n")
    assert [line for line in text.splitlines() if line not in {"", "Like this:"}] == ["Before it.", "After it."]


def test_a_code_like_line_still_opens_its_literal_block():
    assert "plain words" not in strip_code("See [1]::\n\n    plain words\n\nAfter it.\n")


def test_stripped_prose_stays_as_it_is():
    once = strip_code("One fish.\n\nTwo `fish_2` here.\n\n>>> f()\n\nRed.\n")
    assert strip_code(once) == once


def test_identifiers_are_counted_among_words():
    assert identifier_share(["the snake_case and camelCase of a.b"]) == 0.5
    assert identifier_share(["plain words only"]) == identifier_share([]) == 0


@settings(max_examples=50)
@given(st.text(), st.text(max_size=3))
def test_a_group_always_has_the_same_split(group, salt):
    assert split_of(group, SHARES, salt) == split_of(group, dict(SHARES), salt) in SPLITS


def test_splits_have_their_shares_and_another_salt_draws_anew():
    groups = [f"g{i}" for i in range(4000)]
    counts = Counter(split_of(g, SHARES, "a") for g in groups)
    assert {name: round(counts[name] / 4000, 1) for name in SPLITS} == SHARES
    assert [split_of(g, SHARES, "a") for g in groups] != [split_of(g, SHARES, "b") for g in groups]


def lines(seed, n=20):
    return "".join(f"value_{hashlib.sha256(f'{seed} {i}'.encode()).hexdigest()} = {i}\n" for i in range(n))


def module(seed):
    prose = "\n".join(f"Sentence {word} about the {seed} thing." for word in ("one", "two", "three"))
    return f'"""{prose}\n"""\n{lines(seed)}'


@pytest.fixture
def folder(tmp_path):
    """Forty folders of two Python files each."""
    for i in range(80):
        path = tmp_path / "text" / f"p{i % 40}" / f"m{i}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(module(f"m{i}"), encoding="utf-8")
    return tmp_path / "text"


@pytest.fixture
def spec(folder):
    source = {"kind": "folder", "path": str(folder), "pattern": "**/*.py"}
    return text_spec(source)


def test_documents_of_a_folder_are_whole_and_traceable(spec, folder):
    documents = build_text(spec).documents
    assert len(documents) == 80
    assert {d.text for d in documents} == {lines(f"m{i}") for i in range(80)}
    for d in documents:
        assert (d.sha256, d.n_bytes) == (hashlib.sha256(d.text.encode()).hexdigest(), len(d.text.encode()))
        assert d.document.rpartition("/")[0] == d.group


def test_the_split_depends_on_the_group_alone(spec):
    code, prose = build_text(spec).documents, build_text(edited(spec, extract="prose", max_copied_share=1)).documents
    assert {d.document for d in code} == {d.document for d in prose}
    assert all(d.split == split_of(d.group, SHARES, "s") for d in [*code, *prose])


def test_the_documents_do_not_depend_on_the_order_files_were_made(spec, folder, tmp_path):
    for path in sorted(folder.rglob("*.py"), reverse=True):
        copy = tmp_path / "other" / "text" / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    again = edited(spec, sources=[edited(spec.sources[0], path=str(tmp_path / "other" / "text"))])
    assert build_text(again) == build_text(spec)


def test_a_copy_in_another_group_is_left_out(spec, folder):
    (folder / "p1" / "copy.py").write_text(module("m0") + lines("own", 15))
    texts = [d for d in build_text(spec).documents if lines("m0", 20) in d.text]
    assert len(texts) == 1


def test_a_text_that_shares_less_than_the_limit_stays(spec, folder):
    (folder / "p1" / "alike.py").write_text(lines("m0", 8) + lines("own", 12))
    assert len(build_text(spec).documents) == 81


def test_a_copy_within_its_group_stays(spec, folder):
    (folder / "p0" / "copy.py").write_text(module("m0") + "x = 1\n")
    assert len(build_text(spec).documents) == 81


OTHER_FORMS = {
    "the same": lambda text: text,
    "quoted": lambda text: "".join(f"> {line}\n" for line in text.splitlines()),
    "on one line": lambda text: " ".join(text.split()) + "\n",
    "a word per line": lambda text: "\n".join(text.split()) + "\n",
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "most of it": lambda text: text[: int(0.8 * len(text))] + "\n" + lines("own", 3),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_a_copy_in_another_form_is_left_out_and_named(spec, folder, form):
    text = "".join(f"m{i} caf\xe9 {i * i}\n" for i in range(60))  # no line of twenty characters
    for i, content in enumerate((text, OTHER_FORMS[form](text))):
        (folder / f"p{i}" / "short_lines.txt").write_text(content, encoding="utf-8")
    chosen = build_text(edited(spec, extract="plain", sources=[edited(spec.sources[0], pattern="**/*")]))
    named = {name for name in (d.document for d in chosen.documents) if "short_lines" in name}
    assert len(named) == 1
    [(copy, original)] = chosen.copies.items()
    assert {copy, original} == {"text/p0/short_lines.txt", "text/p1/short_lines.txt"}
    assert chosen.left_out == {"copy": 1}


def test_one_file_in_eight_folders_is_one_document(spec, folder):
    for i in range(8):
        (folder / f"p{i}" / "compat.py").write_text("import os\nimport sys\n" * 4)
    (folder / "p0" / "again.py").write_text("import os\nimport sys\n" * 4)
    chosen = build_text(edited(spec, min_bytes_per_document=10))
    assert (len(chosen.documents), chosen.left_out) == (81, {"copy": 8})


def test_every_file_that_is_left_out_is_counted_by_its_reason(spec, folder):
    own = lines("own")
    for name, content in {
        "bom.py": "\ufeff" + own,
        "old.py": f"print 'two'\n{own}",
        "short.py": "x = 1\n",
        "docs.py": '"""Only words."""\n',
        "copy.py": lines("m0"),
    }.items():
        (folder / "p39" / name).write_text(content, encoding="utf-8")
    chosen = build_text(edited(spec, min_bytes_per_document=100))
    assert chosen.left_out == {"no Python 3": 1, "short": 1, "no such text": 1, "copy": 1}
    assert [d.text for d in chosen.documents if d.document.endswith("bom.py")] == [own]
    assert summary(chosen, PROVENANCE).left_out == chosen.left_out
    capped = build_text(edited(spec, max_documents_per_group=1, max_bytes=30000)).left_out
    assert set(capped) >= {"group full", "text full"}


def test_a_long_line_is_cut_where_it_must_be(spec, folder):
    (folder / "p0" / "one.py").write_text("x = '" + "word " * 200 + "'")
    [cut] = [d for d in build_text(edited(spec, max_bytes_per_document=600)).documents if d.document.endswith("one.py")]
    assert 590 <= cut.n_bytes <= 601


def test_caps_hold(spec):
    size = len(lines("m0", 20))
    limits = {"max_bytes_per_document": size // 2, "max_documents_per_group": 1, "max_bytes": size * 12}
    capped = build_text(edited(spec, **limits)).documents
    assert all(d.n_bytes <= size // 2 and d.text.endswith("\n") and lines("x", 1)[:6] in d.text for d in capped)
    assert max(Counter(d.group for d in capped).values()) == 1
    assert size * 12 <= sum(d.n_bytes for d in capped) < size * 12.5


def test_documents_below_the_minimum_are_left_out(spec, folder, refuses):
    with refuses("0 train, 0 calibration and 0 test groups; .*80 shorter than `min_bytes_per_document`"):
        build_text(edited(spec, min_bytes_per_document=10**5))


def test_too_few_test_groups_are_refused(spec, refuses):
    with refuses("`min_test_groups` asks for 30"):
        build_text(edited(spec, min_test_groups=30))


@pytest.mark.parametrize("content", [b"\xff\xfeabc", b"caf\xe9", b"a\0b", b"\x89PNG\r\n\x1a\n\0"])
def test_what_is_no_utf8_text_is_refused_by_name(spec, folder, content, refuses):
    (folder / "p0" / "bad.py").write_bytes(content)
    with refuses("p0/bad.py: (is not UTF-8 text|holds NUL bytes)"):
        build_text(spec)


def test_a_missing_folder_and_an_empty_pattern_are_refused(folder, refuses):
    with refuses("is not a folder; correct `path`"):
        find_files(source_of({"kind": "folder", "path": str(folder / "none")}))
    with refuses("gives no file; check its path"):
        find_files(source_of({"kind": "folder", "path": str(folder), "pattern": "*.md"}))


@pytest.mark.parametrize("pattern", ["", "/abs/*"])
def test_a_pattern_that_is_none_is_refused(folder, pattern, refuses):
    with refuses("cannot be used"):
        find_files(source_of({"kind": "folder", "path": str(folder), "pattern": pattern}))


def test_a_home_that_does_not_exist_is_one_sentence(refuses):
    with refuses("is not a folder"):
        find_files(source_of({"kind": "folder", "path": "~no-such-user/text"}))


def test_a_file_name_that_is_not_utf8_is_refused(folder, refuses):
    (Path(folder) / os.fsdecode(b"\xff.txt")).write_text("x")
    with refuses("is not UTF-8; rename"):
        find_files(source_of({"kind": "folder", "path": str(folder), "pattern": "**/*.txt"}))


def test_a_tests_folder_belongs_to_what_it_tests(folder):
    path = folder / "p0" / "tests" / "test_m.py"
    path.parent.mkdir()
    path.write_text("x = 1\n")
    groups = {
        f.path.name: f.group
        for f in find_files(source_of({"kind": "folder", "path": str(folder), "pattern": "**/*.py"}))
    }
    assert groups["test_m.py"] == groups["m0.py"] == "text/p0"


def test_two_writes_are_byte_identical_and_read_back(spec, tmp_path, monkeypatch):
    documents = build_text(spec).documents
    write_documents(documents, tmp_path / "a.gz")
    monkeypatch.setattr("gzip.time.time", lambda: 1.0)
    write_documents(documents, tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert read_documents(tmp_path / "a.gz") == documents


def document(text="some text\n", group="a", split="train"):
    return Document(f"{group}/b.py", group, "a", "1", hashlib.sha256(text.encode()).hexdigest(), split, len(text), text)


def write_lines(path, *records):
    with gzip.open(path, "wt", encoding="utf-8") as handle:
        handle.writelines(json.dumps(record) + "\n" for record in records)


@pytest.mark.parametrize("change", [{"text": "some test\n"}, {"split": "exam"}])
def test_tampered_text_is_detected(tmp_path, change, refuses):
    write_lines(tmp_path / "t.gz", {**document().__dict__, **change})
    with refuses("document a/b.py does not match its hash"):
        read_documents(tmp_path / "t.gz")


@pytest.mark.parametrize(
    "record", [{"a": 1}, [1], "x", {**document().__dict__, "more": 1}, {**document().__dict__, "text": 5}]
)
def test_lines_that_are_no_documents_are_refused(tmp_path, record, refuses):
    write_lines(tmp_path / "t.gz", record)
    with refuses("is not a text of abi"):
        read_documents(tmp_path / "t.gz")


def test_a_truncated_a_missing_and_a_plain_file_are_refused(tmp_path, refuses):
    write_documents([document()], tmp_path / "t.gz")
    (tmp_path / "short.gz").write_bytes((tmp_path / "t.gz").read_bytes()[:-12])
    (tmp_path / "plain.gz").write_text("no gzip")
    for name in ("short.gz", "plain.gz", "missing.gz"):
        with refuses("is not a text of abi"):
            read_documents(tmp_path / name)


def test_a_flipped_bit_in_the_packed_text_is_refused(tmp_path, refuses):
    write_documents([document()], tmp_path / "t.gz")
    packed = bytearray((tmp_path / "t.gz").read_bytes())
    packed[10] ^= 0xFF
    (tmp_path / "t.gz").write_bytes(packed)
    with refuses("is not a text of abi"):
        read_documents(tmp_path / "t.gz")


def test_summary_and_manifest_count_what_is_there(spec, tmp_path):
    chosen = build_text(spec)
    documents, found = chosen.documents, summary(chosen, PROVENANCE).splits
    assert sum(found[s].documents for s in SPLITS) == 80
    assert found["test"].bytes == sum(d.n_bytes for d in documents if d.split == "test")
    write_manifest(documents, tmp_path / "m.csv")
    rows = (tmp_path / "m.csv").read_text().splitlines()
    assert len(rows) == 81
    assert "value_" not in rows[1]


def test_a_gzip_bomb_is_refused_early_and_in_little_memory(tmp_path, refuses):
    """A gigabyte of zeros as a text: no more of it is unpacked than the record promises."""
    documents = [document(text="x" * 1000, group=f"{split}{i}", split=split) for split in SPLITS for i in range(3)]
    record, bomb = tmp_path / "t.json", tmp_path / "t.gz"
    summary(Chosen(documents), PROVENANCE).write(record)
    with gzip.open(bomb, "wb", compresslevel=1) as handle:
        for _ in range(1024):
            handle.write(bytes(2**20))
    tracemalloc.start()
    start = time.process_time()
    with refuses("unpacked it is larger than its record says"):
        read_assigned(bomb, record)
    assert time.process_time() - start < 1
    assert tracemalloc.get_traced_memory()[1] < 2e7
    tracemalloc.stop()


def test_text_of_control_characters_is_within_what_a_record_promises(tmp_path):
    documents = [
        document(text="\x01" * 5000, group=f"{split}{i}" * 50, split=split) for split in SPLITS for i in range(3)
    ]
    write_documents(documents, tmp_path / "t.gz")
    summary(Chosen(documents), PROVENANCE).write(tmp_path / "t.json")
    assert read_assigned(tmp_path / "t.gz", tmp_path / "t.json") == documents
