"""Generated code: the tasks can be passed and failed, the figures are what they say, and a real module generates them."""

import math

import pytest
import torch
import yaml
from evidence_rows import ROOT

from abi.arms.forms import LinearMap
from abi.arms.generated_code import (
    FAILS_ALIKE,
    CodeScores,
    alike,
    attachable,
    body_of,
    diversity,
    keyword_share,
    parses,
    passes,
    read_tasks,
    task_rows,
)
from abi.base.diagnostics import CODE, WAYS, Way
from abi.base.errors import DataError, TamperError
from abi.base.files import sha256_file
from abi.models.code_writing import CodeWriter
from abi.models.module import AbiModule, ModuleConfig
from abi.models.written import Written
from abi.plan.specs.experiments import CodeOfExperiment

FILE = ROOT / "config" / "tasks.yaml"
TASKS = read_tasks(FILE, sha256_file(FILE), 60)
PROMPT = TASKS[0].prompt


def test_there_are_sixty_different_tasks():
    assert len(yaml.safe_load(FILE.read_text())) == len({task.name for task in TASKS}) == 60
    assert len({task.prompt for task in TASKS}) == 60
    for task in TASKS:
        assert task.prompt.startswith(f"def {task.name}(")
        assert task.prompt.endswith('"""\n')
        assert len(task.calls) >= 3


def test_every_solution_passes_its_task_in_its_own_and_in_other_wording():
    for number, task in enumerate(TASKS):
        for prompt, name in ((task.prompt, task.name), task.worded(number)):
            assert passes(task, prompt, name, body_of(task.solution)), task.name
        assert task.worded(number)[0] != task.prompt


def test_a_wrong_body_passes_no_task():
    others = ("    return None\n", "    pass\n", "    return 1 / 0\n", "")
    for number, task in enumerate(TASKS):
        for wrong in (f"    return {task.calls[0].gives!r}\n", others[number % len(others)]):
            assert not passes(task, task.prompt, task.name, wrong), (task.name, wrong)
    solutions = [task.solution for task in TASKS]
    moved = zip(TASKS, [*solutions[17:], *solutions[:17]], strict=True)
    assert sum(passes(task, task.prompt, task.name, body) for task, body in moved) <= 2


@pytest.mark.parametrize(
    ("continuation", "body"),
    [
        ("    return 1\n", "    return 1\n\n"),
        ("    return 1\n\n\ndef other():\n    pass\n", "    return 1\n\n\n"),
        ("return 1\n", ""),
        ("    if a:\n\n        return 1\nx = 2", "    if a:\n\n        return 1\n"),
        ("", "\n"),
    ],
)
def test_the_body_ends_before_the_first_line_that_is_not_indented(continuation, body):
    assert body_of(continuation) == body


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        ("    return a + b\n", True), ("    return a +\n", False), ("", False), ("\n", False),
        ('    """Another text."""\n', True), ("    return (\n", False), ("  return a\n", False), ("    a\x00\n", False),
        ("    x = " + "(" * 500 + "\n", False),
    ],
)  # fmt: skip
def test_a_prompt_alone_is_no_function(body, valid):
    assert parses(PROMPT, body) is valid


def test_figures_of_words():
    assert keyword_share("    return a if b else c\n") == 3 / 6
    assert keyword_share("    1 + 2\n") == diversity("") == 0.0
    assert diversity("a b a b") == 0.5


@pytest.mark.parametrize(("both", "one", "none"), [(3, 3, 4), (4, 6, 0), (5, 6, 49), (0, 0, 10), (2, 3, 0), (1, 2, 97)])
def test_alike_is_above_its_limit_where_the_jaccard_index_is(both, one, none):
    values = [*[(True, True)] * both, *[(True, False)] * one, *[(False, False)] * none]
    mean = sum(alike(*pair, FAILS_ALIKE) for pair in values) / len(values)
    index = both / (both + one) if both + one else FAILS_ALIKE
    assert (mean - FAILS_ALIKE > 1e-12) == (index - FAILS_ALIKE > 1e-12)
    assert mean - FAILS_ALIKE == pytest.approx((both + one) * (index - FAILS_ALIKE) / len(values))


class Scripted:
    """A writer whose texts and losses are known: arms are told apart by the module they are given."""

    def __init__(self, texts, loss):
        self.texts, self.loss = texts, loss

    def write(self, module, prompts, way, n_tokens, seed):
        ids = [torch.tensor([0])] * len(prompts)
        return Written(self.texts[module], ids, ids)

    def losses(self, module, written):
        who = next(name for name, texts in self.texts.items() if texts == written.texts)
        return [self.loss[module, who]] * len(written.texts)


def asked(metrics, tasks):
    return CodeOfExperiment(tasks=tasks, tokens=4, sha256="a" * 64, metrics=metrics, arms=[])


def test_scores_compare_every_arm_with_the_reference():
    right = [task.solution for task in TASKS[:4]]
    texts = {
        None: ["x\n"] * 4,
        "native": [*right[:3], "    pass\n"],
        "moved": [right[0], "    pass\n", right[2], "  ("],
    }
    loss = {(a, b): 1.0 if a == b else 1.5 for a in texts for b in texts}
    metrics = ["parses.greedy", "passed.greedy", "fails_alike.greedy", "passes_alike.greedy", "cross_ratio.greedy"]
    arms = {"raw": None, "reference": "native", "moved": "moved"}
    found = {
        (one.metric, one.key.arm): one.values.tolist()
        for one in CodeScores(asked(metrics, 4), TASKS[:4], Scripted(texts, loss), arms, 1).scores()
    }
    assert found["parses.greedy", "moved"] == [1, 1, 1, 0]
    assert found["passed.greedy", "reference"] == [1, 1, 1, 0]
    assert found["passed.greedy", "moved"] == [1, 0, 1, 0]
    assert found["passed.greedy", "raw"] == [0] * 4
    assert found["fails_alike.greedy", "moved"] == [0.4, 0, 0.4, 1]
    assert found["passes_alike.greedy", "moved"] == [1, 0, 1, 0.45]
    assert found["cross_ratio.greedy", "moved"] == pytest.approx([math.exp(0.5)] * 4)
    assert found["cross_ratio.greedy", "reference"] == [1] * 4


def test_every_figure_of_the_catalogue_is_computed():
    texts = {None: ["    return a + b\n"] * 3}
    arms = {"raw": None, "reference": None}
    scores = list(CodeScores(asked(list(CODE), 3), TASKS[:3], Scripted(texts, {(None, None): 1.0}), arms, 1).scores())
    assert {one.metric for one in scores} == set(CODE)
    rows = list(task_rows(scores, TASKS[:3], 5, 4))
    assert len(rows) == 2 * len(CODE) * 3
    assert rows[0][3:8] == (5, "tasks", "add", "add", 4)


def test_a_file_of_tasks_that_changed_or_is_short_is_refused(tmp_path):
    path = tmp_path / "tasks.yaml"
    path.write_text(FILE.read_text())
    with pytest.raises(TamperError, match="plan again"):
        read_tasks(path, "a" * 64, 3)
    with pytest.raises(DataError, match="holds 60 tasks and 61"):
        read_tasks(path, sha256_file(path), 61)
    path.write_text("- {name: a}\n")
    with pytest.raises(DataError, match="Field required"):
        read_tasks(path, sha256_file(path), 1)
    path.write_text("[")
    with pytest.raises(DataError, match="no YAML"):
        read_tasks(path, sha256_file(path), 1)


# on a real model


@pytest.fixture(scope="module")
def backbone(make_backbone):
    return make_backbone("gpt2")


def module(backbone, size):
    made = AbiModule(ModuleConfig(width=backbone.width, d_abi=8, taps=(backbone.depth,), expansion=2), seed=3)
    with torch.no_grad():
        made.proj_out.weight.mul_(size)
    return made


def test_a_batch_of_prompts_gives_what_each_gives_alone(backbone):
    writer, worn = CodeWriter(backbone), module(backbone, 30.0)
    prompts = [task.prompt[:n] for task, n in zip(TASKS[:3], (12, 20, 16), strict=True)]
    together = writer.write(worn, prompts, WAYS["greedy"], 6, 1)
    for i, prompt in enumerate(prompts):
        assert writer.write(worn, [prompt], WAYS["greedy"], 6, 1).ids[0].tolist() == together.ids[i].tolist()
    plain = writer.write(None, prompts, WAYS["greedy"], 6, 1)
    assert plain.texts != together.texts
    assert writer.write(None, prompts, WAYS["greedy"], 6, 1).texts == plain.texts  # nothing stays attached


def test_draws_follow_their_seed_and_are_cut(backbone):
    writer, prompts = CodeWriter(backbone), [TASKS[0].prompt[:12]] * 8
    one, again, other = (writer.write(None, prompts, Way(1.0), 4, seed).texts for seed in (1, 1, 2))
    assert one == again != other
    greedy = writer.write(None, prompts, Way(), 4, 1).texts
    assert writer.write(None, prompts, Way(1.0, top_k=1), 4, 1).texts == greedy
    assert writer.write(None, prompts, Way(1.0, top_p=1e-6), 4, 1).texts == greedy != one


def test_losses_are_those_of_the_module_that_reads(backbone):
    writer, worn = CodeWriter(backbone), module(backbone, 30.0)
    written = writer.write(None, [TASKS[0].prompt[:12], TASKS[1].prompt[:15]], Way(1.0), 5, 1)
    plain, read = writer.losses(None, written), writer.losses(worn, written)
    assert len(plain) == 2
    assert plain != pytest.approx(read)
    prompt, made = written.prompts[0], written.ids[0]
    with torch.no_grad():
        logits = backbone.model(torch.cat([prompt, made]).unsqueeze(0)).logits[0, len(prompt) - 1 : -1]
    own = torch.log_softmax(logits, -1).gather(-1, made.long().unsqueeze(-1))
    assert plain[0] == pytest.approx(-float(own.mean()), rel=1e-5)


def test_what_is_no_module_generates_nothing():
    with pytest.raises(DataError, match="arm linear is no module"):
        attachable("linear", LinearMap((1,), 4))
