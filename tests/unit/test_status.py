"""`abi status`: every output of a run that is missing, damaged or stale is named, and `--mend` deletes what rests on it."""

import base64
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from made_results import CLAIM, FILE, edit, put

from abi.audit.results import staleness, status
from abi.audit.results.records import MODELS, read_record
from abi.audit.results.status import HASHES, Made, Status, Survey, mend
from abi.base import job
from abi.base.errors import DataError
from abi.base.files import FRESH_NS, ROOT, sha256_file
from abi.base.job import versions
from abi.base.manifests.backbones import TokensManifest
from abi.cli import main
from abi.plan.config import load
from abi.plan.workflow import Workflow

RESULTS = "results/tiny"
EVIDENCE = f"{RESULTS}/evidence/{CLAIM}"
PAGES = {f"{RESULTS}/summary.json", f"{RESULTS}/headline.json"}


def looked(*targets, **options):
    return Survey(Workflow(load("tiny", Path())), **options).look(targets)


def told(capsys, *arguments, code):
    assert main.main(["status", *arguments]) == code
    return capsys.readouterr().out


def flipped(path, at=-3):
    content = bytearray(Path(path).read_bytes())
    content[at] ^= 1
    Path(path).write_bytes(bytes(content))


def evidence():
    """The first batch of evidence of the claim, without its end."""
    return sorted(Path(EVIDENCE).glob("*.json"))[0].with_suffix("")


def test_what_is_built_is_whole_and_fresh(here, capsys):
    assert "nothing missing, damaged or stale" in told(capsys, CLAIM, code=0)
    assert "nothing missing, damaged or stale" in told(capsys, "headline", code=0)


def test_what_was_never_built_is_missing_and_an_empty_folder_says_so_in_a_line(here, tmp_path, monkeypatch, capsys):
    out = told(capsys, code=1)
    assert f"missing  {RESULTS}/cross_family_nib_results.json: never built, or deleted\n" in out
    assert f"missing  {RESULTS}/cards/gpt2_to_qwen.md" in out
    shutil.copytree(ROOT / "config", tmp_path / "empty" / "config")
    monkeypatch.chdir(tmp_path / "empty")
    nothing, where = told(capsys, "headline", "--mend", code=0).splitlines()
    assert nothing == f"{RESULTS}: nothing is built yet"
    assert where == "There is no folder results/ here: run abi where your results are."
    Path("results").mkdir()
    assert told(capsys, "headline", "--mend", code=0) == f"{nothing}\n"


@pytest.mark.parametrize(
    ("damage", "state", "suffix"),
    [
        (lambda path: path.unlink(), "missing", ".csv.gz"),
        (lambda path: path.unlink(), "missing", ".draws.csv.gz"),
        (lambda path: path.unlink(), "missing", ".json"),
        (flipped, "damaged", ".csv.gz"),
        (flipped, "damaged", ".draws.csv.gz"),
        (lambda path: path.write_text("{"), "damaged", ".json"),
        (lambda path: path.write_text(path.read_text().replace('"rows"', '"raws"')), "damaged", ".json"),
        (lambda path: path.write_text(path.read_text().replace('"threads": 1', '"threads": 2')), "damaged", ".json"),
    ],
)
def test_damage_is_named_and_mended_with_what_rests_on_it(here, capsys, damage, state, suffix):
    batch = evidence()
    path = batch.with_suffix(suffix)
    damage(path)
    found = json.loads(told(capsys, "headline", "--json", code=1))
    named = [(line["state"], line["file"]) for line in found["lines"] if line["state"] != "stale"]
    assert named == [(state, str(path))]
    rests = {f"{batch}.json", FILE, f"{RESULTS}/headline.json"}
    assert set(found["rebuild"]) == rests
    before = sorted(Path(RESULTS).rglob("*"))
    told(capsys, "headline", "--mend", code=0)
    gone = {str(path) for path in before if not path.exists()}
    assert rests <= gone | {str(path)}
    assert {Path(name).name.split(".")[0] for name in gone} <= {batch.name, "headline", Path(FILE).stem}


def test_a_careful_forgery_of_a_record_is_stale_where_it_does_not_fit_what_was_made_of_it(here, capsys):
    edit(f"{evidence()}.json", put("contents/arms", ["raw"]))
    out = told(capsys, CLAIM, code=1)
    assert f"stale    {FILE}: {evidence()}.json changed\n" in out


@pytest.mark.parametrize("name", [FILE, f"{RESULTS}/headline.json"])
@pytest.mark.parametrize("leaf", ["provenance/threads", "provenance/versions/numpy"])
def test_a_changed_leaf_of_a_result_or_page_is_damage(here, capsys, name, leaf):
    document = json.loads(Path(name).read_text(encoding="utf-8"))
    put(leaf, 7 if leaf.endswith("threads") else "0")(document)
    Path(name).write_text(json.dumps(document), encoding="utf-8")
    assert f"damaged  {name}: was changed after it was written\n" in told(capsys, "headline", code=1)


@pytest.mark.parametrize("end", ["md", "txt"])
def test_a_page_whose_text_is_gone_or_other_is_named(here, capsys, end):
    page = Path(f"{RESULTS}/headline.{end}")
    page.write_text(page.read_text() + "SUPPORTED\n")
    assert f"damaged  {page}: it is not the file that {RESULTS}/headline.json was written with" in told(
        capsys, "headline", code=1
    )
    page.unlink()
    assert f"missing  {page}" in told(capsys, "headline", code=1)
    out = told(capsys, "headline", "--mend", code=0)
    assert "summarise" in out
    assert not Path(f"{RESULTS}/headline.json").exists()
    assert Path(FILE).exists()


@pytest.mark.parametrize("suffix", ["", ".csv.gz", ".json"])
@pytest.mark.parametrize("put_there", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_something_else_in_place_of_a_file_is_damage_and_no_folder_is_deleted(here, capsys, suffix, put_there):
    path = evidence().with_suffix(suffix) if suffix else Path(FILE)
    path.unlink()
    put_there(path)
    assert f"damaged  {path}: is no file that can be read\n" in told(capsys, "headline", code=1)
    assert main.main(["status", "headline", "--mend"]) == path.is_dir()
    said = capsys.readouterr()
    assert ("is a folder where a file belongs" in said.err) == path.is_dir()
    assert Path(f"{RESULTS}/headline.json").exists() == path.is_dir()


def reworded():
    file = Path("config/claims.yaml")
    file.write_text(file.read_text().replace("title: T5 to GPT-2", "title: T5 and GPT-2"))


def memory_of(name):
    path = status.MEMORY / base64.urlsafe_b64encode(name.encode()).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def remember(name, **other):
    """Write what Snakemake remembers of a job that wrote a record."""
    made = json.loads(Path(name).read_text(encoding="utf-8"))["provenance"] | other
    memory_of(name).write_text(json.dumps({"params": [repr(made["code"]), repr(made["spec"]), "{'numpy': '1'}"]}))


def test_an_edit_of_the_configuration_is_stale_and_nothing_is_deleted_for_it(here, capsys):
    before = sorted(Path(RESULTS).rglob("*"))
    remember(FILE)
    reworded()
    assert f"stale    {FILE}: title" in told(capsys, CLAIM, "--mend", code=0)
    assert sorted(Path(RESULTS).rglob("*")) == before


@pytest.mark.parametrize(
    "remembers",
    [
        lambda: None,
        lambda: remember(FILE, spec={"id": CLAIM}),  # of a file in whose place another was copied
        lambda: remember(FILE, code="0"),
        lambda: memory_of(FILE).touch(),
        lambda: memory_of(FILE).write_text("{}"),
        lambda: memory_of(FILE).write_bytes(b"\xff{"),
        lambda: memory_of(FILE).write_text('{"params": ["import os"]}'),
    ],
    ids=["nothing", "another spec", "other code", "an empty file", "no params", "no text", "no literal"],
)
def test_a_stale_file_that_snakemake_does_not_remember_as_it_is_goes_with_its_memory(here, capsys, remembers):
    remembers()
    reworded()
    assert "at least 1 job has to run" in told(capsys, CLAIM, code=1)
    assert "deleted" in told(capsys, CLAIM, "--mend", code=0)
    assert not Path(FILE).exists()
    assert not memory_of(FILE).exists()


def test_a_record_in_a_folder_that_a_job_made_is_remembered_by_the_folder(here):
    """Snakemake knows the folder alone of an update or of written text."""
    made = read_record(FILE).made
    inner = f"{RESULTS}/updates/held.1/1-3/1/states.json"
    memory = memory_of(f"{RESULTS}/updates/held.1/1-3")
    assert not status.remembered(inner, made)
    memory.write_bytes(b"")
    assert not status.remembered(inner, made)
    memory.write_text(json.dumps({"params": [repr(made.code), repr(made.spec)]}))
    assert status.remembered(inner, made)
    assert not status.remembered(inner, made.model_copy(update={"code": "0"}))


@pytest.mark.parametrize(("newer_s", "mended"), [(5, False), (0, True), (-5, True)])
def test_a_result_of_another_input_goes_where_the_dates_do_not_show_it(here, capsys, newer_s, mended):
    """Snakemake runs a job again where an input is newer than its output: one put back with its old date is not."""
    record = f"{evidence()}.json"
    edit(record, put("contents/arms", ["raw"]))
    remember(FILE)
    os.utime(record, (os.stat(FILE).st_mtime + newer_s,) * 2)
    assert f"stale    {FILE}: {record} changed" in told(capsys, CLAIM, "--mend", code=0)
    assert Path(FILE).exists() != mended
    assert Path(record).exists()


def test_files_elsewhere_that_a_record_names_are_not_deleted(here, capsys):
    """A folder of results that was copied under the name of another scale names the files of the run it came from."""
    names = [f"{RESULTS}_r1/a.json", "README.md", str(here / "thesis.txt"), f"{RESULTS}/../../README.md"]
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        edit(FILE, put("provenance/outputs", {name: "0" * 64}))
        assert f"damaged  {FILE}: names {name} as a file of its job, so it is" in told(capsys, CLAIM, code=1)
    told(capsys, CLAIM, "--mend", code=0)
    assert not Path(FILE).exists()
    assert {Path(name).read_text() for name in names} == {"mine"}
    with pytest.raises(DataError, match=r"README\.md: is no file of results/tiny, and abi deletes none elsewhere"):
        mend(Status(RESULTS, [], {"a": Made(files={f"{RESULTS}/../README.md": None})}, records=1, files=1))


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
@pytest.mark.parametrize("odd", ["\0", "\ud800", "a\nb"])
def test_a_path_that_is_none_is_one_line(here, capsys, kind, odd):
    edit(FILE, put(f"provenance/{kind}", {f"{RESULTS}/{odd}": "0" * 64}))
    out = told(capsys, CLAIM, code=1)
    assert f"damaged  {FILE}: names " in out
    assert "which is no path of a file" in out


def test_a_file_that_was_put_into_a_folder_of_a_job_is_damage(here, capsys):
    """A backbone is refused with a file that its record does not name; a hidden one is Snakemake's, or a disk's."""
    record, folder = f"{evidence()}.json", evidence()
    folder.mkdir()
    for name in ("model.safetensors", "adapter_config.json", ".snakemake_timestamp"):
        (folder / name).write_text("{}")
    edit(record, put("provenance/outputs", {f"{folder}/model.safetensors": sha256_file(folder / "model.safetensors")}))
    out = told(capsys, CLAIM, code=1)
    assert f"damaged  {folder}/adapter_config.json: {record} was not written with it" in out
    assert out.count("damaged") == 2  # it and the summary's
    told(capsys, CLAIM, "--mend", code=0)
    assert [path.name for path in folder.iterdir()] == [".snakemake_timestamp"]


def test_a_reason_is_given_once_and_missing_files_are_no_more_than_those_that_are_expected(here, capsys, monkeypatch):
    monkeypatch.setattr(status, "outdated", lambda *_: ["seed changed", "seed changed", "rate changed"])
    assert "seed changed; rate changed\n" in told(capsys, CLAIM, code=1)
    for path in Path(RESULTS).rglob("*"):
        if path.is_file() and str(path) != FILE:
            path.unlink()
    found = looked()
    assert found.files >= sum(line.state == "missing" for line in found.lines) > 10
    assert f" {found.files} files expected, 1 record read: " in found.counted()


def test_what_is_counted_has_its_plural():
    made = Status(RESULTS, [], {"a": Made()}, records=1, files=1).counted()
    assert made.startswith(f"{RESULTS}: 1 file expected, 1 record read: ")
    assert made.endswith("; at least 1 job has to run for it")


def test_an_edited_file_of_a_folder_is_no_edit_of_the_configuration():
    spec = {"sources": [{"kind": "package", "version": "1"}, {"kind": "folder", "path": "/notes", "version": "ab"}]}
    assert staleness._folder_of("sources/1/version", spec) == "files of /notes changed"
    assert staleness._folder_of("sources/0/version", spec) == ""
    assert staleness._folder_of("max_bytes", spec) == ""


def test_another_release_of_a_package_is_stale_and_another_build_is_not(here, capsys, monkeypatch):
    now = versions()
    monkeypatch.setattr(job, "versions", lambda: now | {"scipy": f"{now['scipy']}+mkl"})
    assert "nothing missing, damaged or stale" in told(capsys, CLAIM, code=0)
    monkeypatch.setattr(job, "versions", lambda: now | {"scipy": "0.9"})
    assert f"was made with scipy {now['scipy']}, here is 0.9\n" in told(capsys, CLAIM, code=1)


def test_nothing_is_deleted_while_a_run_holds_the_folder(here, capsys):
    flipped(evidence().with_suffix(".csv.gz"))
    locks = Path(".snakemake/locks")
    locks.mkdir(parents=True)
    (locks / "0.output.lock").touch()
    assert main.main(["status", CLAIM, "--mend"]) == 1
    said = capsys.readouterr()
    assert "not all of it was deleted: .snakemake/locks: a run is going on" in said.err
    assert "damaged" in said.out
    assert Path(FILE).exists()
    with pytest.raises(DataError, match="a run is going on"):
        mend(looked(CLAIM))


def test_files_that_stay_are_hashed_once_and_a_damaged_list_is_no_harm(here, monkeypatch):
    import time

    from abi.audit.results import status as module

    hashed, real = [], module.sha256_file
    monkeypatch.setattr(module, "sha256_file", lambda path: hashed.append(path) or real(path))
    time.sleep(2 * FRESH_NS / 1e9)
    looked(CLAIM)
    first = len(hashed)
    looked(CLAIM)
    assert len(hashed) == first > 10
    looked(CLAIM, deep=True)
    assert len(hashed) == 2 * first
    flipped(evidence().with_suffix(".csv.gz"))
    assert [line.state for line in looked(CLAIM).lines] == ["stale", "damaged"]
    for content in ("[", "[1]", '{"a": 3}'):
        HASHES.write_text(content)
        assert len(looked(CLAIM).lines) == 2


def test_every_file_that_names_what_made_it_is_known():
    made = {name for name, model in MODELS.items() if "provenance" in model.model_fields}
    assert {"abi/states@1", "abi/calibration@1", "abi/evidence@1", "abi/study@1", "abi/report@1"} <= made


def test_an_unknown_target_is_one_sentence(here, capsys):
    assert main.main(["status", "t5_to_gtp2"]) == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "rebuilt"),
    [
        (["headline", "--mend"], True),
        (["--mend", "--", CLAIM], True),
        (["--mend", "--", "transfer"], True),  # no claim: all of the scale
        (["t5_same_backbone", "--mend"], False),
    ],
)
def test_a_run_says_what_it_deletes_before_it_begins_and_only_of_what_it_was_asked_for(
    here, monkeypatch, capsys, words, rebuilt
):
    monkeypatch.setattr(os, "execv", lambda *_: sys.exit(0))  # here it would become Snakemake
    damaged = evidence().with_suffix(".csv.gz")
    flipped(damaged)
    assert main.main(["run", "--config", "scale=tiny", *words]) == 0
    said = capsys.readouterr().err
    assert (f"abi: {damaged}: it is not the file that" in said) == rebuilt
    assert damaged.exists() != rebuilt


def test_a_record_that_is_another_kind_of_file_is_damaged(here):
    record = evidence().with_suffix(".json")
    TokensManifest(vocabulary="c" * 20, spellings=["a", "b"]).write(record)
    [line] = [line for line in looked(CLAIM).lines if line.file == str(record)]
    assert line.state == "damaged"
