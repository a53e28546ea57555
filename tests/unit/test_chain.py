"""The chain behind a verdict: the first broken promise is named, and a run whose promises hold is described."""

import json
import shutil
from pathlib import Path

import pytest
from made_results import CLAIM, FILE, edit, put

from abi.audit.results.chain import Chain, begins
from abi.audit.results.places import CRATE
from abi.audit.results.records import read_record
from abi.base.errors import DataError, TamperError
from abi.base.files import sha256_file
from abi.cli import main
from abi.report.crate import PROFILES, sources, write_crate

RESULTS = Path("results/tiny")


def evidence(suffix):
    return sorted(Path(RESULTS, "evidence", CLAIM).glob("*.json"))[0].with_suffix(suffix)


def first():
    return Chain.of(RESULTS).broken[0].words()


def test_an_honest_run_keeps_every_promise(here):
    chain = Chain.of(RESULTS)
    assert chain.broken == []
    assert list(chain.records)[-1].endswith(".json")
    assert chain.links > 2 * len(chain.records)


def test_records_come_after_what_they_were_made_from(here):
    order = list(Chain.of(RESULTS).records)
    assert order.index(str(evidence(".json"))) < order.index(FILE) < order.index(str(RESULTS / "summary.json"))


def test_a_file_that_is_gone_or_other_is_named_with_what_was_promised(here):
    path = evidence(".csv.gz")
    promised = sha256_file(path)[:12]
    path.write_bytes(b"other")
    assert (
        first()
        == f"{path}: {path.parent}/{path.name.removesuffix('.csv.gz')}.json promises sha256 {promised}, there is d9298a10d1b0"
    )
    path.unlink()
    assert first().endswith(f"promises sha256 {promised}, nothing is there")


@pytest.mark.parametrize(("spec", "found"), [({"hub": {}}, True), ({"build": {"seed": 1}}, False)])
def test_a_backbone_that_was_built_goes_back_to_texts(here, spec, found):
    made = read_record(FILE).document.provenance
    assert begins(made.model_copy(update={"rule": "build_backbone", "spec": spec})) is found
    assert not begins(made)


def test_the_damage_is_named_before_what_follows_from_it(here):
    put_seed = put("contents/seeds", [7])
    record = evidence(".json")
    document = json.loads(record.read_text(encoding="utf-8"))
    put_seed(document)
    record.write_text(json.dumps(document), encoding="utf-8")
    assert first().startswith(f"{record}: it promises contents of seal ")
    edit(record, put_seed)  # with a seal that fits
    assert first().startswith(f"{record}: {FILE} promises sha256 ")


def test_what_is_no_record_is_one_sentence(here):
    evidence(".json").write_text("{")
    assert "\n" not in first()
    assert first().startswith(f"{evidence('.json')}: it promises a record of abi, it is not readable JSON")


def test_the_command_names_the_link_and_exits_with_one(here, capsys):
    evidence(".draws.csv.gz").unlink()
    assert main.main(["verify", "--deep", "results/tiny"]) == 1
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("chain: first broken link, after ")
    assert f" s: {evidence('.draws.csv.gz')}: " in last
    assert main.main(["verify", CLAIM, "--deep", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)["chain"]
    assert told["first_broken"].startswith(f"{evidence('.draws.csv.gz')}: ")
    assert [part["name"] for part in told["parts"]] == ["hashes"]


def test_the_chain_is_walked_alone(here, capsys):
    assert main.main(["verify", "--deep", "results/tiny", "--against", "reference"]) == 2
    assert "leave out --against" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("config", "config: is no folder of a run; name one like results/tiny"),
        ("results", "results: is no folder of a run; name one like results/tiny"),
        ("nowhere", "nowhere: there is no such folder; name one like results/tiny"),
        ("results/tiny_r1", "nothing is built yet at scale tiny_r1; `abi run --scale tiny_r1` builds it"),
        ("results/smoke", "results/smoke: holds no result file; build some with `abi run --scale smoke`"),
        ("results/tinny", "results/tinny: is not there, and 'tinny' is no scale; scales: "),
        ("else/results/tiny", "There is no folder else/results/ here: run abi where your results are."),
    ],
)
def test_a_folder_that_is_no_run_is_one_sentence(here, capsys, folder, words):
    Path("results/smoke").mkdir()
    for command in (["verify", "--deep", folder], ["crate", folder]):
        assert main.main(command) == 2
        [sentence] = capsys.readouterr().err.splitlines()
        assert words in sentence


# the crate


@pytest.fixture
def graph(here):
    write_crate(RESULTS, "https://orcid.org/0000-0000-0000-0000")
    content = json.loads((RESULTS / CRATE).read_text(encoding="utf-8"))
    return {entity["@id"]: entity for entity in content["@graph"]}


def of_type(graph, name):
    return [entity for entity in graph.values() if name in [entity["@type"], *entity["@type"]]]


def ids(entity, key):
    found = entity.get(key, [])
    return [one["@id"] for one in (found if isinstance(found, list) else [found])]


def test_a_crate_has_what_its_profiles_require(graph):
    root, main_file = graph["./"], graph["workflow/Snakefile"]
    assert ids(root, "conformsTo") == list(PROFILES.values())
    assert ids(root, "mainEntity") == ["workflow/Snakefile"]
    assert {"name", "description", "datePublished", "license"} <= set(root)
    assert main_file["@type"] == ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]
    assert ids(main_file, "programmingLanguage")
    steps, controls = of_type(graph, "HowToStep"), of_type(graph, "ControlAction")
    actions = of_type(graph, "CreateAction")
    [engine] = of_type(graph, "OrganizeAction")
    assert {step["@id"] for step in steps} == set(ids(main_file, "step"))
    for step in steps:
        assert set(ids(step, "workExample")) <= set(ids(main_file, "hasPart"))
    assert {name for control in controls for name in ids(control, "object")} | {"#run"} == {a["@id"] for a in actions}
    assert set(ids(engine, "object")) == {control["@id"] for control in controls}
    assert ids(engine, "result") == ["#run"]
    assert ids(graph["#run"], "instrument") == ["workflow/Snakefile"]
    for action in actions:
        assert {"name", "description", "startTime", "endTime", "actionStatus", "result", "agent"} <= set(action)
        assert action["startTime"] <= action["endTime"]
    tools = {name for action in actions for name in ids(action, "instrument")}
    assert tools == {*ids(main_file, "hasPart"), "workflow/Snakefile"}
    for parameter in of_type(graph, "FormalParameter"):
        assert parameter["additionalType"] == "File"
        assert all(ids(graph[name], "exampleOfWork") == [parameter["@id"]] for name in ids(parameter, "workExample"))


def test_every_reference_of_a_crate_leads_to_an_entity_and_every_file_is_there(graph):
    def references(node):
        if isinstance(node, dict):
            yield from (
                [node["@id"]] if set(node) == {"@id"} else (r for value in node.values() for r in references(value))
            )
        elif isinstance(node, list):
            yield from (r for value in node for r in references(value))

    outside = {"https://w3id.org/ro/crate/1.1", "https://w3id.org/workflowhub/workflow-ro-crate/1.0"}
    told = {reference for entity in graph.values() for reference in references(entity)}
    assert {r for r in told - set(graph) - outside if "snakemake" not in r and "doi.org" not in r} == set()
    assert all((RESULTS / entity["@id"]).is_file() for entity in of_type(graph, "File"))
    assert len(sources()) == 1 + len(list((RESULTS / "workflow/rules").glob("*.smk")))


def test_a_job_of_a_crate_tells_what_it_read_and_wrote_with_their_hashes(graph):
    job = graph[f"#job/evidence/{CLAIM}/{evidence('.json').name}"]
    wrote = {name: graph[name]["sha256"] for name in ids(job, "result")}
    assert wrote == {
        str(evidence(s).relative_to(RESULTS)): sha256_file(evidence(s)) for s in (".csv.gz", ".draws.csv.gz", ".json")
    }
    judged = graph[f"#job/{Path(FILE).name}"]
    assert str(evidence(".json").relative_to(RESULTS)) in ids(judged, "object")
    software = {
        graph[name]["name"] for tool in ids(judged, "instrument") for name in ids(graph[tool], "softwareRequirements")
    }
    assert {"python", "numpy", "torch"} <= software


def test_a_crate_is_no_result_and_no_other_run_is_made_of_it(graph, capsys):
    assert main.main(["verify", "--brief"]) == 0
    assert CRATE not in capsys.readouterr().out


def test_a_broken_chain_is_not_described(here):
    evidence(".csv.gz").write_bytes(b"other")
    with pytest.raises(TamperError, match="promises sha256") as caught:
        write_crate(RESULTS)
    assert "\n" not in str(caught.value)
    assert "`abi status --mend` and a run" in str(caught.value)
    assert not (RESULTS / CRATE).exists()
    Path("results/tiny_r1").mkdir()
    shutil.copy(FILE, "results/tiny_r1")
    with pytest.raises(TamperError, match="`abi status --mend --scale tiny_r1` and a run"):
        write_crate(Path("results/tiny_r1"))
    with pytest.raises(DataError, match="holds no result file"):
        write_crate(Path("config"))
