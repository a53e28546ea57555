"""Modules moved between models that share nothing, saved, loaded and shared."""

import base64
import http.server
import json
import threading
from dataclasses import replace

import api_world
import pytest
import torch
import transformers

import abi
from abi.api import modules
from abi.api.modules import RECORD
from abi.base.errors import DataError, TamperError
from abi.base.files import sha256_tensors
from abi.cli import main
from abi.models import loop
from abi.models.module import CONFIG, WEIGHTS

FEW = {"steps": 20}


@pytest.fixture(scope="module")
def oracle(world, qwen):
    return abi.train(*qwen, world / "queries", d_abi=32, steps=60, rates=[1e-2])


# transfer


def test_a_target_that_is_too_narrow_is_named_with_what_would_do(world, gpt2, qwen, refuses, caplog):
    """A module as wide as its source failed in the words of its shape."""
    wide = abi.train(*qwen, world / "queries", steps=1, rates=[1e-2])
    with refuses("states give a module at most 32 dimensions, and this one has 40; train one with d_abi=32 or less"):
        abi.transfer(wide, qwen, gpt2, general_texts=world / "prose", steps=1)
    assert caplog.records == []
    abi.train(*qwen, api_world.queries(6), d_abi=8, steps=1, rates=[1e-2])
    [few] = caplog.records
    assert few.message.startswith("train: texts has ")
    assert few.message.endswith("to learn from; a hundred are better")


@pytest.mark.parametrize("regime", ["general-only", "few-shot", "oracle-kd"])
def test_what_is_given_decides_the_regime(world, gpt2, qwen, trained, oracle, regime):
    given = {"domain_texts": world / "queries"} if regime != "general-only" else {}
    given |= {"teacher": oracle} if regime == "oracle-kd" else {}
    moved = abi.transfer(trained, gpt2, qwen, general_texts=world / "prose", **given, **FEW)
    assert (moved.record.regime, moved.record.made_by) == (regime, "transfer")
    assert moved.record.trained_beside.model == "small-gpt2"
    assert moved.record.moved_to.model == "small-qwen"
    assert [t.what for t in moved.record.texts] == ["general_texts", *given][: 1 + bool(given)]
    assert (moved.record.cosine is None) == (regime == "general-only")
    for name, parameter in trained.net.domain_parameters().items():  # the net that moves stays as it is
        assert torch.equal(moved.net.domain_parameters()[name], parameter)
    assert {*trained.record.seen} <= {*moved.record.seen}
    found = abi.evaluate(qwen[0], moved, world / "queries", qwen[1])
    assert found.gain.lower > 0
    with pytest.raises(DataError, match="40 wide, and this one is 32 wide"):
        abi.attach(gpt2[0], moved, tokenizer=gpt2[1])


@pytest.mark.parametrize("while_it", ["chooses its rate", "calibrates"])
def test_a_transfer_that_was_killed_goes_on_to_the_same_bits(
    world, gpt2, qwen, trained, tmp_path, monkeypatch, while_it
):
    given = {"general_texts": world / "prose", "domain_texts": world / "queries", "steps": 5}
    whole, saved, begun = abi.transfer(trained, gpt2, qwen, **given), loop._save_checkpoint, []

    def mortal(path, *arguments):
        saved(path, *arguments)
        if (path.parent.name == "arms") == (while_it == "calibrates"):
            begun.append(path)
        if len(begun) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(loop, "_save_checkpoint", mortal)
        killed.setitem(loop.fit_together.__kwdefaults__, "checkpoint_every_s", 0.0)
        with pytest.raises(KeyboardInterrupt):
            abi.transfer(trained, gpt2, qwen, **given, keep=tmp_path / "parts")
    assert begun[-1].is_file()
    assert bool([*(tmp_path / "parts").rglob("rates-arms.json")]) == (while_it == "calibrates")
    again = abi.transfer(trained, gpt2, qwen, **given, keep=tmp_path / "parts")
    assert (again.sha256, again.record.rate) == (whole.sha256, whole.record.rate)
    assert not (tmp_path / "parts").exists()


def test_a_portable_module_moves_as_it_is(world, gpt2, qwen, portable):
    moved = abi.transfer(portable, gpt2, qwen)
    assert moved.record.regime == "zero-text"
    assert moved.sha256 == portable.sha256
    own = portable.record
    assert (moved.record.steps, moved.record.loss, moved.record.texts) == (own.steps, own.loss, own.texts)
    assert abi.transfer(portable, None, qwen).record == moved.record
    judged = abi.transfer(moved.recorded(verdict="REFUTED"), None, gpt2)
    assert judged.record.verdict is None  # which was that of the other target
    with pytest.raises(DataError, match="of kind 'portable' moves as it is; leave out general_texts, steps"):
        abi.transfer(portable, gpt2, qwen, general_texts=world / "prose", steps=5)
    assert abi.evaluate(qwen[0], moved, world / "queries", qwen[1]).gain.lower > 0
    ids = qwen[1](["SELECT a", "CREATE"], padding=True, padding_side="left", return_tensors="pt")
    with abi.attach(qwen[0], moved, tokenizer=qwen[1]):
        cached, slow = (qwen[0].generate(**ids, max_new_tokens=8, do_sample=False, use_cache=c) for c in (True, False))
    assert torch.equal(cached, slow)


def test_a_regime_without_its_texts_is_refused(world, gpt2, qwen, trained, oracle, refuses):
    with refuses("needs `general_texts` that both models read"):
        abi.transfer(trained, gpt2, qwen)
    with refuses("transfer: the teacher is a str; give a `Module`"):
        abi.transfer(trained, gpt2, qwen, general_texts=world / "prose", domain_texts=world / "queries", teacher="one")
    with refuses("a teacher teaches on domain text"):
        abi.transfer(trained, gpt2, qwen, general_texts=world / "prose", teacher=oracle)
    with refuses("32 wide, and this one is 40 wide"):
        abi.transfer(trained, qwen, gpt2, general_texts=world / "prose")
    with refuses("target: give it as .model, tokenizer."):
        abi.transfer(trained, gpt2, "small-qwen", general_texts=world / "prose")


@pytest.mark.parametrize("family", ["t5", "opt"])
def test_an_encoder_decoder_and_another_family_are_models_like_any_other(make_backbone, qwen, family, tmp_path):
    backbone, texts = make_backbone(family), api_world.prose(24)
    source = backbone.model, backbone.tokenizer
    trained = abi.train(*source, texts, steps=10, rates=[1e-2])
    assert abi.evaluate(source[0], trained, texts, source[1]).documents
    moved = abi.transfer(trained, source, qwen, general_texts=api_world.prose(24, seed=3), steps=5)
    back = abi.train(*qwen, texts, d_abi=16, steps=10, rates=[1e-2])
    assert abi.transfer(
        back, qwen, source, general_texts=api_world.prose(24, seed=3), domain_texts=texts, steps=5
    ).about.base_model
    batch = source[1](["the state", "a"], padding=True, return_tensors="pt")
    # This T5 has more decoder blocks than encoder blocks, for which transformers itself makes too small a cache.
    asked = {**batch, "max_new_tokens": 4, "use_cache": family != "t5"}
    plain = source[0].generate(**asked, do_sample=False)
    with abi.attach(source[0], trained, tokenizer=source[1]):
        source[0].generate(**asked, num_beams=2)
    assert torch.equal(source[0].generate(**asked, do_sample=False), plain)
    with pytest.raises(DataError, match="40 wide, and this one is 16 wide"):
        abi.attach(source[0], moved, tokenizer=source[1])


def test_half_precision_is_a_model_of_its_own(world, trained, tmp_path, capsys):
    model = transformers.AutoModelForCausalLM.from_pretrained(world / "small-gpt2", dtype=torch.bfloat16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(world / "small-gpt2")
    with pytest.raises(DataError, match="the backbone is in bfloat16, so its weights cannot be compared"):
        abi.attach(model, trained, tokenizer=tokenizer)
    own = abi.train(model, tokenizer, world / "queries", **FEW)
    found = abi.evaluate(model, own, world / "queries", tokenizer)
    assert found.gain.mean > 0
    own.save_pretrained(tmp_path / "own")
    asked = ["--model", str(world / "small-gpt2"), "--module", str(tmp_path / "own")]
    assert main.main(["evaluate", *asked, "--texts", str(world / "queries"), "--json"]) == 0  # loaded in bf16 as well
    assert json.loads(capsys.readouterr().out)["gain"]["mean"] == pytest.approx(found.gain.mean, abs=1e-3)


def test_a_model_with_a_module_on_it_is_not_trained_beside(world, gpt2, trained, refuses):
    with abi.attach(gpt2[0], trained, tokenizer=gpt2[1]), refuses("a module is attached to it; detach that first"):
        abi.train(*gpt2, world / "queries", **FEW)


# save, load, share


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine that takes commits; what was committed, by path, and the requests."""
    taken, asked = {}, []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            there = [{"type": "file", "path": path, "size": 1, "oid": "1" * 40} for path in taken]
            facts = {"id": "me/sql", "siblings": [], "private": "open" not in self.path}
            self.answered(200, there if "/tree/" in self.path else facts)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            asked.append((self.path, self.headers["Authorization"]))
            answer = {"url": f"{address}/me/sql", "name": "me/sql", "id": "me/sql"}
            if "/preupload/" in self.path:
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                answer = {"files": files}
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "deletedFile":
                        del taken[line["value"]["path"]]
                    if line["key"] == "file":
                        taken[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                answer |= {"commitUrl": f"{address}/me/sql/commit/1", "commitOid": "1" * 40, "success": True}
            self.answered(403 if "theirs" in self.path + body.decode(errors="replace") else 200, answer)

        def answered(self, status, answer):
            told = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(told)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", "secret")
        yield taken, asked
        server.shutdown()


def test_a_module_is_pushed_to_the_hub_as_its_folder(hub, trained, tmp_path):
    taken, asked = hub
    assert trained.push_to_hub("me/sql").endswith("/me/sql")
    assert {path for path, _ in asked} >= {"/api/repos/create", "/api/models/me/sql/commit/main"}
    assert {token for _, token in asked} == {"Bearer secret"}
    for path, content in taken.items():
        (tmp_path / path).write_bytes(content)
    assert sorted(taken) == ["README.md", CONFIG, WEIGHTS, RECORD]
    assert abi.Module.from_pretrained(tmp_path).sha256 == trained.sha256
    assert 'from_pretrained("me/sql")' in (tmp_path / "README.md").read_text()
    replace(trained, record=None).push_to_hub("me/sql")
    assert sorted(taken) == ["README.md", CONFIG, WEIGHTS]  # the record that lay there was that of other weights


def test_a_repository_of_others_is_not_written_to(hub, trained, refuses):
    with refuses("theirs/sql: cannot be uploaded: it is not yours to write to; log in as who may"):
        trained.push_to_hub("theirs/sql")


def test_what_is_to_be_private_is_not_uploaded_where_all_may_read(hub, trained, refuses):
    """The hub leaves a repository as public as it is."""
    with refuses("open/sql: is public, so nothing was uploaded"):
        trained.push_to_hub("open/sql", private=True)
    assert hub[0] == {}
    trained.push_to_hub("me/sql", private=True)
    assert hub[0]


def test_a_module_that_is_saved_over_another_keeps_no_record_of_that_one(trained, tmp_path, monkeypatch):
    trained.save_pretrained(tmp_path)
    monkeypatch.setattr(modules, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        trained.save_pretrained(tmp_path)
    assert not (tmp_path / RECORD).exists()


def test_a_module_is_not_saved_into_a_file(trained, tmp_path, refuses):
    (tmp_path / "notes").write_text("mine")
    with refuses("notes: cannot be written"):
        trained.save_pretrained(tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "mine"


def test_the_command_pushes_what_lies_in_a_folder(hub, trained, tmp_path, capsys):
    trained.save_pretrained(tmp_path / "saved")
    assert main.main(["push", str(tmp_path / "saved"), "me/sql", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["module"] == trained.sha256
    assert told["address"].endswith("/me/sql")
    assert sorted(hub[0]) == ["README.md", CONFIG, WEIGHTS, RECORD]
    assert main.main(["push", str(tmp_path / "nowhere"), "me/sql"]) == 2
    assert "is no folder; give that of a saved module" in capsys.readouterr().err


def test_a_hub_that_does_not_answer_is_one_sentence(trained, monkeypatch, refuses):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with refuses("me/sql: cannot be uploaded: cannot be looked up .ConnectError: .*.; go online"):
        trained.push_to_hub("me/sql")
    with refuses(
        "nobody/here: is no folder here, and no module comes from the hub: cannot be looked up .ConnectError: "
    ):
        abi.Module.from_pretrained("nobody/here")


@pytest.mark.parametrize(("name", "kind"), [("trained", "module"), ("portable", "portable")])
def test_a_saved_module_is_the_same_and_the_command_line_loads_it(name, kind, request, tmp_path):
    trained = request.getfixturevalue(name)
    trained.save_pretrained(tmp_path / "saved")
    back = abi.Module.from_pretrained(tmp_path / "saved")
    assert (back.sha256, back.kind, back.record.seen) == (trained.sha256, kind, trained.record.seen)
    assert sha256_tensors(dict(back.net.state_dict())) == trained.sha256
    _, facts = abi.load_module(tmp_path / "saved")
    assert facts.base_sha256 == trained.about.base_sha256
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["README.md", CONFIG, WEIGHTS, RECORD]
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "small-gpt2" in card
    assert f"`texts`: {trained.record.texts[0].documents} documents" in card
    assert "base_model" not in card  # a folder is no model of the hub


def test_a_damaged_or_edited_module_is_refused(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    (tmp_path / RECORD).write_text((tmp_path / RECORD).read_text().replace('"steps": 60', '"steps": 61'))
    with pytest.raises(TamperError, match="was changed after it was written"):
        abi.Module.from_pretrained(tmp_path)
    (tmp_path / CONFIG).unlink()
    with pytest.raises(DataError, match=f"holds no {CONFIG}, so it is no module; give the folder of one"):
        abi.Module.from_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"README\.md: is a file; give the folder of a module"):
        abi.Module.from_pretrained(tmp_path / "README.md")
    for seed in ("seed1", "seed2"):
        trained.save_pretrained(tmp_path / seed)
    with pytest.raises(DataError, match="it is no module; give one of the 2 in it, such as seed1"):
        abi.Module.from_pretrained(tmp_path)
