import base64
import hashlib
import os
import re

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_arms import source_of, text_spec

from abi.base.files import ROOT
from abi.plan.config import load
from abi.plan.specs.text import BuildText
from abi.plan.workflow import Workflow
from abi.text import sources
from abi.text.corpus import build_text
from abi.text.documents import SPLITS, assignment_sha256, split_of
from abi.text.sources import find_files, parquet_rows, read_text, sections, split_rows

SHIPPED = [
    *((scale, text) for scale in ("tiny", "smoke") for text in ("markdown", "sql")),
    *(pytest.param(("real", text), marks=pytest.mark.long) for text in ("python", "general")),
]


def recorded(content):
    """What the record of a wheel says of a file."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """An installed distribution `fakewheel` 1.0 of one module."""
    content = b"x = 1\n"
    digest = recorded(content)
    info = tmp_path / "site" / "fakewheel-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "fakewheel").mkdir()
    (tmp_path / "site" / "fakewheel" / "a.py").write_bytes(content)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fakewheel\nVersion: 1.0\n")
    (info / "RECORD").write_text(
        f"fakewheel/a.py,sha256={digest},6\n../../bin/x.py,sha256={digest},6\nfakewheel-1.0.dist-info/RECORD,,\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site" / "fakewheel"


PACKAGE = {"kind": "package", "package": "fakewheel", "version": "1.0"}


def test_a_package_gives_its_recorded_files_in_order_of_their_hash(wheel):
    (file,) = find_files(source_of(PACKAGE))
    assert (file.name, file.group, file.path) == ("fakewheel/a.py", "fakewheel", wheel / "a.py")
    assert file.key == hashlib.sha256(b"x = 1\n").hexdigest()


def test_of_a_package_only_files_that_hold_an_expression_are_taken_and_each_can_be_a_group(wheel):
    texts = {
        f"talks/{name}.txt": f"Copyright {year}\nText {name}.\n"
        for name, year in (("a", 2026), ("b", 2019), ("c", 2026))
    }
    (wheel / "talks").mkdir()
    with (wheel.parent / "fakewheel-1.0.dist-info" / "RECORD").open("a") as record:
        for name, text in texts.items():
            (wheel / name).write_text(text)
            record.write(f"fakewheel/{name},sha256={recorded(text.encode())},{len(text)}\n")
    talks = {**PACKAGE, "pattern": "**/talks/*.txt"}

    def groups(**more):
        return {
            file.name.removeprefix("fakewheel/talks/"): file.group for file in find_files(source_of({**talks, **more}))
        }

    assert groups() == dict.fromkeys(("a.txt", "b.txt", "c.txt"), "fakewheel/talks")
    assert groups(containing="Copyright 202[5-9]") == dict.fromkeys(("a.txt", "c.txt"), "fakewheel/talks")
    alone = groups(group_by="file")
    assert alone == {name: f"fakewheel/talks/{name}" for name in ("a.txt", "b.txt", "c.txt")}


def test_a_package_without_a_file_that_holds_the_expression_is_refused(wheel, refuses):
    with refuses(": gives no file; check its path"):
        find_files(source_of({**PACKAGE, "containing": "Copyright 2026"}))


def test_another_version_or_no_package_is_refused(wheel, refuses):
    with refuses("version 1.0 is installed, 2.0 is pinned"):
        find_files(source_of({**PACKAGE, "version": "2.0"}))
    with refuses("is not installed"):
        find_files(source_of({**PACKAGE, "package": "no-such-wheel"}))


def test_an_edited_file_of_a_package_is_refused(wheel, refuses):
    (wheel / "a.py").write_text("y = 2\n")
    with refuses("fakewheel/a.py"):
        build_text(text_spec(PACKAGE))


def test_rows_of_a_data_set_are_documents_or_the_lines_between_headings():
    rows = [" = A = \n", "one\n", "", " = B = \n", " \n", "two\n"]
    assert split_rows(rows, None) == [" = A = \n", "one\n", " = B = \n", "two\n"]
    assert split_rows(rows, r" = \w") == [" = A = \none\n", " = B = \n \ntwo\n"]
    assert split_rows(["before\n", *rows], r" = \w")[0] == "before\n"


@pytest.fixture
def described(wheel):
    """Give `fakewheel` a description."""

    def describe(body, name="fakewheel"):
        info = wheel.parent / f"{name}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\n{body}")
        return {"kind": "metadata", "packages": {name: "1.0"}, "part_bytes": 20}

    return describe


def test_a_description_is_read_in_parts_of_one_group(described):
    body = "# One\n\nText of the first section.\n\n## Two\n\nText of the second one.\n"
    files = find_files(source_of(described(body)))
    assert sorted(file.text for file in files) == sorted(sections(body, 20))
    assert {(file.group, file.source, file.version) for file in files} == {
        ("fakewheel/description", "fakewheel", "1.0")
    }
    assert {file.name for file in files} == {"fakewheel/description/00.md", "fakewheel/description/01.md"}


@pytest.mark.parametrize("body", ["", "\n \n"])
def test_a_package_without_description_is_refused(described, body, refuses):
    with refuses("fakewheel: has no description; take it off"):
        find_files(source_of(described(body)))


@pytest.mark.parametrize(
    ("packages", "words"), [({"fakewheel": "2.0"}, "2.0 is pinned"), ({"no-such-wheel": "1"}, "is not installed")]
)
def test_a_description_of_another_version_or_no_package_is_refused(described, packages, words, refuses):
    with refuses(words):
        find_files(source_of({**described("Text.\n"), "packages": packages}))


@given(
    st.lists(st.sampled_from(["# A\n", "Title\n", "=====\n", "```\n", "some text of a line\n", "\n", "| a |\n"])),
    st.integers(1, 60),
)
def test_sections_are_the_whole_text_and_none_but_the_last_is_short(lines, least):
    text = "".join(lines)
    parts = sections(text, least)
    assert "".join(parts) == text
    assert all(len(part) >= least for part in parts[:-1])


def test_sections_begin_at_headings_but_not_in_code():
    assert sections("a\n# B\nb\n", 1) == ["a\n", "# B\nb\n"]
    assert sections("a\n\nB\n---\nb\n", 1) == ["a\n\n", "B\n---\nb\n"]
    assert sections("a\n```\n# no heading\n```\nb\n", 1) == ["a\n```\n# no heading\n```\nb\n"]
    assert sections("# A\n## B\n", 100) == ["# A\n## B\n"]


GRAMMAR = {"kind": "grammar", "name": "sql", "seed": 3, "documents": 12, "groups": 4, "lines_per_document": 20}


def test_synthetic_text_is_named_so_and_every_group_comes_in_turn():
    files = find_files(source_of(GRAMMAR))
    assert len(files) == 12
    assert all(file.name.startswith("synthetic-sql/schema") and file.version == "seed 3" for file in files)
    for first in (0, 4, 8):
        assert len({file.group for file in files[first : first + 4]}) == 4


@pytest.fixture(scope="module", params=SHIPPED, ids="-".join)
def shipped(request):
    """A text of a scale with its spec and what the scale says of it."""
    scale, text = request.param
    workflow = Workflow(load(scale))
    spec = BuildText.model_validate(workflow.text_spec(text))
    return spec, build_text(spec).documents, workflow.scale.texts[text]


def test_a_shipped_text_is_the_same_twice(shipped):
    spec, documents, _ = shipped
    assert build_text(spec).documents == documents


def test_groups_of_a_shipped_text_lie_in_one_split(shipped):
    spec, documents, _ = shipped
    splits = {(d.group, d.split) for d in documents}
    assert len(splits) == len({group for group, _ in splits})
    assert all(split == split_of(group, dict(spec.split), spec.salt) for group, split in splits)
    assert len({group for group, split in splits if split == "test"}) >= 30


def test_a_shipped_text_has_text_enough_for_its_windows(shipped):
    _, documents, settings = shipped
    size = {split: sum(d.n_bytes for d in documents if d.split == split) for split in SPLITS}
    assert size["train"] >= 300_000
    for split in SPLITS:
        assert size[split] >= min(getattr(settings.max_windows, split), 50) * 128 * 3
    assert min(d.n_bytes for d in documents) >= 2 * 128 * 3


def test_the_windows_of_a_shipped_text_reach_thirty_test_groups(shipped):
    _, documents, settings = shipped
    n = settings.max_windows.test // settings.max_windows_per_document.test
    assert len({d.group for d in [d for d in documents if d.split == "test"][:n]}) >= 30


def test_no_description_is_in_two_groups_and_pins_are_those_of_the_lock():
    lock = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "envs" / "requirements.lock").read_text(), re.MULTILINE))
    for scale in ("tiny", "smoke", "paper"):
        spec = Workflow(load(scale)).text_spec("markdown")
        packages = spec["sources"][0]["packages"]
        assert packages == {name: lock[name] for name in packages}
        files = find_files(source_of(spec["sources"][0]))
        assert {file.group for file in files} == {f"{name}/description" for name in packages}
        owner = {}
        assert all(owner.setdefault(file.text, file.group) == file.group for file in files if file.text.strip())


def test_a_split_of_its_own_is_what_a_text_and_its_states_depend_on():
    workflow = Workflow(load("tiny"))
    own = workflow.scale.texts["markdown"].split.plain()
    assert (
        own
        != workflow.scale.split.plain()
        == workflow.text_spec("python")["split"]
        == workflow.states_spec("qwen", "sql")["split"]
    )
    assert own == workflow.text_spec("markdown")["split"] == workflow.states_spec("qwen", "markdown")["split"]


def test_synthetic_documents_of_a_shipped_text_are_whole():
    spec = BuildText.model_validate(Workflow(load("tiny")).text_spec("sql"))
    documents = build_text(spec).documents
    assert all(d.document.startswith("synthetic-sql/") and d.text.endswith(";\n") for d in documents)
    assert len({d.group for d in documents}) == 160
    assert assignment_sha256(documents) == assignment_sha256(documents[::-1])


@pytest.fixture
def linked(tmp_path):
    """A folder of text with a link to a file and one to a folder, both outside of it, and one to a file inside."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text("nobody's text\n")
    (inside / "own.txt").write_text("my text\n")
    (inside / "again.txt").symlink_to("own.txt")
    return inside, outside


def test_a_folder_gives_what_lies_in_it_and_links_inside_of_it(linked):
    files = find_files(source_of({"kind": "folder", "path": str(linked[0])}))
    assert {file.name for file in files} == {"inside/own.txt", "inside/again.txt"}


@pytest.mark.parametrize(
    ("link", "pattern"),
    [("secret.txt", "**/*"), ("", "*/*"), ("../../../../../../../../../../etc/hostname", "**/*")],
    ids=["file", "folder", "system file"],
)
def test_a_link_out_of_a_folder_is_refused(linked, link, pattern, refuses):
    (linked[0] / "link").symlink_to(linked[1] / link)
    with refuses("link.* is a link out of the folder; name its target as a source of its own"):
        find_files(source_of({"kind": "folder", "path": str(linked[0]), "pattern": pattern}))


def test_a_file_that_is_too_large_is_refused_before_it_is_hashed(linked, monkeypatch, refuses):
    monkeypatch.setattr(sources, "MOST_TEXT", 10)
    monkeypatch.setattr(sources, "sha256_file", lambda path: pytest.fail(f"{path} was hashed"))
    (linked[0] / "a.txt").write_text("x" * 11)
    with refuses("a.txt has more than 10 bytes; split it, or narrow `pattern`"):
        find_files(source_of({"kind": "folder", "path": str(linked[0]), "pattern": "a.txt"}))


def test_parquet_is_read_by_and_by_and_up_to_a_bound(tmp_path, monkeypatch, refuses):
    pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    monkeypatch.setattr(sources, "ROWS", 2)
    path = tmp_path / "a.parquet"
    pandas.DataFrame({"text": ["one", "twö", "three"], "n": [1, 2, 3]}).to_parquet(path)
    assert list(parquet_rows(path, "text")) == ["one", "twö", "three"]
    monkeypatch.setattr(sources, "MOST_TEXT", 7)
    rows = parquet_rows(path, "text")
    assert [next(rows), next(rows)] == ["one", "twö"]
    with refuses("a.parquet: holds more than 7 bytes of text"):
        next(rows)
    with refuses("a.parquet: has no column 'body', only text, n"):
        list(parquet_rows(path, "body"))
    pandas.DataFrame({"text": ["one", None, "six"]}).to_parquet(path)
    assert list(parquet_rows(path, "text")) == ["one", "six"]
    pandas.DataFrame({"text": [["one"], ["two"]]}).to_parquet(path)
    with refuses("a.parquet: column 'text' holds a list and no text; correct `column`"):
        list(parquet_rows(path, "text"))
    path.write_text("no parquet")
    with refuses("a.parquet: cannot be read as parquet"):
        list(parquet_rows(path, "text"))


def test_a_folder_that_is_a_link_itself_is_named_by_its_user(linked):
    (linked[1] / "to").symlink_to(linked[0])
    assert len(find_files(source_of({"kind": "folder", "path": str(linked[1] / "to")}))) == 2


def test_pipes_and_loops_in_a_folder_are_no_text(linked):
    os.mkfifo(linked[0] / "pipe")
    (linked[0] / "loop").symlink_to("loop")
    assert len(find_files(source_of({"kind": "folder", "path": str(linked[0])}))) == 2


@pytest.mark.parametrize(
    "kind", [{"kind": "folder", "path": "a"}, PACKAGE, {"kind": "hub", "id": "a", "revision": "0" * 40}]
)
def test_a_pattern_that_leads_out_of_a_source_is_refused(kind):
    with pytest.raises(ValueError, match="leads out of the source"):
        source_of({**kind, "pattern": "**/../../*"})


def test_a_file_too_large_to_be_a_text_is_refused_unread(tmp_path, refuses):
    (tmp_path / "a.txt").touch()
    os.truncate(tmp_path / "a.txt", 2**40)
    with refuses("has more than 500000000 bytes"):
        read_text(tmp_path / "a.txt")
