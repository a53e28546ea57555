"""`abi demo`: its server, asked as a browser asks it, and the modules that it finds."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from api_world import queries
from test_documents import commands
from test_portable import facts as portable_facts

import abi
from abi.api.inspecting import compare_modules, inspect_tokens, write_both
from abi.base.errors import ConfigError
from abi.base.manifests.modules import ModuleFacts
from abi.cli import demo as command
from abi.cli import main
from abi.cli.demo import _revised
from abi.cli.demo_server import FILES, MOST_BYTES, Demo, own_names, server
from abi.models.module import AbiModule, ModuleConfig, save_module
from abi.models.ngram_module import NgramModule, save_ngrams

ROOT = Path(__file__).parents[2]
ASKED = {"model": "gpt2", "prompt": "SELECT the state", "weights": {"sql": 0.5}}


@pytest.fixture(scope="module")
def attached(gpt2, trained):
    with abi.attach(gpt2[0], {"sql": trained}, tokenizer=gpt2[1]) as several:
        yield several


@contextmanager
def serving(demo):
    """Yield the port of a running server."""
    listening = server(demo, 0)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield listening.server_port
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


@pytest.fixture(scope="module")
def port(attached):
    with serving(Demo({"gpt2": attached})) as number:
        yield number


def ask(port, path, body=None, **headers):
    """Return status, headers and what was sent back."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        given = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", path, sent, given)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def test_the_page_asks_nobody_but_its_server(port):
    for path in FILES:
        status, headers, body = ask(port, path)
        assert status == 200
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert b"http://" not in body
        assert b"https://" not in body
        assert b"//cdn" not in body


def test_the_models_and_their_modules_are_listed(port, gpt2):
    [told] = json.loads(ask(port, "/api/models")[2])
    assert told == {"name": "gpt2", "parameters": gpt2[0].num_parameters(), "modules": ["sql"]}


def test_answers_are_those_of_the_library(port, attached):
    choice, prompt = ASKED["weights"], ASKED["prompt"]
    told = json.loads(ask(port, "/api/inspect", ASKED)[2])
    assert told == [one.model_dump() for one in inspect_tokens(attached, choice, prompt)]
    told = json.loads(ask(port, "/api/write", {**ASKED, "tokens": 6, "temperature": 1, "seed": 3})[2])
    assert told == write_both(attached, choice, prompt, 6, temperature=1.0, seed=3).model_dump()
    told = json.loads(ask(port, "/api/compare", {"model": "gpt2", "prompt": prompt, "reference": "sql"})[2])
    assert told == [one.model_dump() for one in compare_modules(attached, ["sql"], prompt, "sql")]


def test_requests_at_the_same_time_do_not_mix(port, attached):
    wanted = {w: [one.model_dump() for one in inspect_tokens(attached, {"sql": w}, "SELECT")] for w in (0.0, 1.0, 2.0)}
    found = []

    def one(weight):
        found.append(
            (
                weight,
                json.loads(ask(port, "/api/inspect", {**ASKED, "prompt": "SELECT", "weights": {"sql": weight}})[2]),
            )
        )

    threads = [threading.Thread(target=one, args=(weight,)) for weight in [*wanted] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 9
    assert all(told == wanted[weight] for weight, told in found)


WRONG = {
    "another host": ("/", None, {"Host": "evil.example:80"}, 403, "Host: "),
    "another site": ("/api/inspect", ASKED, {"Origin": "http://evil.example"}, 403, "Origin: "),
    "a form of another site": ("/api/inspect", ASKED, {"Content_Type": "text/plain"}, 415, "application/json"),
    "no such file": ("/../demo.py", None, {}, 404, "the page is /"),
    "no such request": ("/api/train", ASKED, {}, 404, "requests are"),
    "too much": ("/api/inspect", b" " * (MOST_BYTES + 1), {}, 413, "longer than"),
    "a length of thousands of digits": ("/api/inspect", b"{}", {"Content_Length": "9" * 5000}, 413, "longer than"),
    "no JSON": ("/api/inspect", b"{", {}, 400, "request: Invalid JSON"),
    "a number that is none": ("/api/inspect", b'{"model":"gpt2","prompt":"a","weights":{"sql":NaN}}', {}, 400, "weights.sql: "),
    "a weight too large": ("/api/inspect", {**ASKED, "weights": {"sql": 1e9}}, {}, 400, "weights.sql: "),
    "another key": ("/api/inspect", {**ASKED, "wieghts": {}}, {}, 400, "wieghts: Extra inputs"),
    "an unknown model": ("/api/inspect", {**ASKED, "model": "gpt3"}, {}, 400, "no 'gpt3'; there are gpt2"),
    "an unknown module": ("/api/inspect", {**ASKED, "weights": {"sq": 1}}, {}, 400, "no module 'sq'"),
    "no prompt": ("/api/inspect", {**ASKED, "prompt": ""}, {}, 400, "prompt: "),
    "half a character": ("/api/inspect", b'{"model":"gpt2","prompt":"\\ud800","weights":{}}', {}, 400, ""),
    "more than the model has positions for": ("/api/inspect", {**ASKED, "prompt": "a b " * 60}, {}, 400, "shorter text"),
    "too many tokens": ("/api/write", {**ASKED, "tokens": 201}, {}, 400, "tokens: "),
    "an unknown reference": ("/api/compare", {"model": "gpt2", "prompt": "a", "reference": "x"}, {}, 400, "no module 'x'"),
}  # fmt: skip


def test_a_browser_leaves_out_the_port_of_http():
    assert {"127.0.0.1", "localhost", "127.0.0.1:80"} < own_names(80)
    assert own_names(8000) == {"127.0.0.1:8000", "localhost:8000"}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_request_is_one_sentence(port, fault):
    path, body, headers, status, words = WRONG[fault]
    found, _, told = ask(port, path, body, **headers)
    sentence = json.loads(told)["error"]
    assert (found, "\n" in sentence) == (status, False), sentence
    assert words in sentence


def test_a_fault_of_the_server_is_answered_with_one_sentence():
    with serving(Demo({"gpt2": None})) as port:
        status, _, told = ask(port, "/api/inspect", ASKED)
    sentence = json.loads(told)["error"]
    assert (status, sentence.count("\n")) == (500, 0)
    assert sentence.startswith("demo: failed (AttributeError: ")


def test_it_listens_on_this_machine_alone_and_names_a_port_that_is_taken(port, attached, refuses):
    listening = server(Demo({"gpt2": attached}), 0)
    assert listening.server_address[0] == "127.0.0.1"
    with refuses(f"port {listening.server_port} cannot be used"):
        server(Demo({}), listening.server_port)
    listening.server_close()


def test_the_modules_of_a_run_are_found_by_the_weights_that_they_belong_to(tmp_path, facts):
    def save(place, arm="oracle", base="a" * 64):
        given = {**facts.model_dump(), "name": arm, "base_sha256": base}
        save_module(AbiModule(ModuleConfig(16, (2,), 8), seed=1), tmp_path / place, ModuleFacts(**given))

    save("modules/gpt2_medium/python/standard/oracle/1-5/seed1")
    save("modules/gpt2_medium/python/standard/oracle/1-5/seed2")
    save("modules/gpt2/python/standard/oracle/1-5/seed1", base="f" * 64)
    for arm in ("transferred", "random", "linear"):
        save(f"calibration/t5_to_gpt2/1-5/seed1/gradient/{arm}-0", arm)
    save("calibration/gpt2_to_qwen/1-5/seed1/gradient/transferred-0", base="f" * 64)
    (tmp_path / "modules/gpt2_medium/sql/standard/oracle/1-5/seed1").mkdir(parents=True)
    (tmp_path / "modules/gpt2_medium/sql/standard/oracle/1-5/seed1/abi_config.json").write_text("{")
    found = command.modules_of_run(tmp_path, "gpt2_medium", "a" * 64)
    assert {name: module.about.name for name, module in found.items()} == {
        "gpt2_medium: python, standard, oracle": "oracle",
        "t5_to_gpt2: transferred, gradient": "transferred",
        "t5_to_gpt2: random, gradient": "random",
    }


def served(folder, *arguments):
    """Run the command in a folder, ask it for its models, interrupt it; return model -> names of its modules."""
    asked = [sys.executable, "-m", "abi.cli", "demo", *arguments, "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(asked, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as running:
        said = running.stderr.readline()
        number = int(said.partition("127.0.0.1:")[2].partition("/")[0])
        told = json.loads(ask(number, "/api/models")[2])
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=30) == 0
        assert running.stderr.read() == ""
    return {one["name"]: one["modules"] for one in told}


def test_the_command_serves_until_it_is_interrupted(world, trained, tmp_path):
    trained.save_pretrained(tmp_path / "mine")
    asked = ["--model", str(world / "small-gpt2"), "--model", str(world / "small-qwen"), "--module", "sql=mine"]
    assert served(tmp_path, *asked) == {"small-gpt2": ["sql"], "small-qwen": []}


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [c[2:] for page in PAGES for c in commands(page) if c[:2] == ["abi", "demo"]]


@pytest.mark.long
@pytest.mark.parametrize("example", [c for c in EXAMPLES if "--backbone" not in c], ids=" ".join)
def test_the_commands_of_the_documents_serve(example, world, trained, qwen, tmp_path):
    given = dict(zip(example[1::2], example[::2], strict=True))
    second = abi.train(*qwen, queries(24), steps=5)
    for name, option in given.items():
        first = name in ("first-model", "small-gpt2", "my-sql", "small-gpt2-module")
        if option == "--model":
            (tmp_path / name).symlink_to(world / ("small-gpt2" if first else "small-qwen"))
        else:
            (trained if first else second).save_pretrained(tmp_path / name)
    told = served(tmp_path, *example)
    assert {*told} == {name for name, option in given.items() if option == "--model"}
    assert sorted(name for names in told.values() for name in names) == sorted(
        name for name, option in given.items() if option == "--module"
    )


def test_a_revision_is_of_the_only_model_or_of_the_one_that_it_names():
    assert _revised(["you/a", "b"], []) == {"you/a": None, "b": None}
    assert _revised(["you/a"], ["v1"]) == {"you/a": "v1"}
    assert _revised(["you/a", "me/b.2"], ["b.2=main"]) == {"you/a": None, "me/b.2": "main"}
    with pytest.raises(ConfigError, match=r"--revision v1: name its model, one of a, b\.2, as in `NAME=REV`"):
        _revised(["you/a", "me/b.2"], ["v1"])
    assert _revised(["you/a"], ["a=x=y"]) == {"you/a": "x=y"}
    with pytest.raises(ConfigError, match="you/a has one already, v1"):
        _revised(["you/a"], ["v1", "a=v2"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --model"),
        (
            ["--model", "w/small-qwen", "--module", "mine"],
            "demo: --module mine: attach: the module is for small-gpt2, which is",
        ),
        (["--model", "w/small-gpt2", "--module", "mine", "--module", "mine"], "two modules are called 'mine'"),
        (["--model", "w/small-gpt2", "--model", "w/small-gpt2/"], "two models are called 'small-gpt2'"),
        (["--model", "w/small-gpt2", "--module", "counted"], "demo: --module counted: it is an n-gram model, which"),
        (["--model", "w/small-gpt2", "--port", "99999"], "port 99999 cannot be used"),
        (["--backbone", "gpt2", "--revision", "abc"], "a backbone of a scale has its own revision"),
        (
            ["--model", "w/small-gpt2", "--revision", "other=abc"],
            "--revision other=abc: name its model, one of small-gpt2",
        ),
    ],
    ids=[
        "no model",
        "another's module",
        "one name twice",
        "one model twice",
        "n-gram model",
        "no port",
        "no model of the hub",
        "no such model",
    ],
)
def test_what_cannot_be_shown_is_one_sentence(arguments, words, world, trained, tmp_path, monkeypatch, capsys):
    (tmp_path / "w").symlink_to(world)
    trained.save_pretrained(tmp_path / "mine")
    save_ngrams(NgramModule([b"the state"], 3, 0.3), tmp_path / "counted", portable_facts())
    monkeypatch.chdir(tmp_path)
    assert main.main(["demo", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
