"""Figures of generated code: tasks, prompts, what of a continuation is the function, and what each figure is.

A module is attached to the frozen backbone, which goes on after a prompt as plain text (`models/code_writing.py`). The
body is what is indented; it runs in the sandbox alone (`base/sandbox.py`).
"""

import ast
import keyword
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
import yaml
from pydantic import JsonValue, TypeAdapter, ValidationError

from abi.arms.metrics import EvidenceRow, Key, Score
from abi.base.diagnostics import WAYS, Way
from abi.base.errors import DataError, TamperError
from abi.base.files import sha256_once
from abi.base.names import RAW, REFERENCE, TASKS
from abi.base.sandbox import call, same
from abi.base.typed import Typed, fault
from abi.models.module import AbiModule, derive_seed
from abi.models.written import Written
from abi.plan.specs.experiments import CodeOfExperiment

FAILS_ALIKE, PASSES_ALIKE = 0.4, 0.45
"""Jaccard indices that the original asks for (X9): of the tasks that both fail, and that both pass."""
MOST = 20.0
"""Nats, the largest difference of losses, so that no ratio overflows."""
WORD = re.compile(r"[A-Za-z_]\w*")
REWORDED = (
    lambda prompt, name: prompt.replace(f"def {name}(", "def solution("),
    lambda prompt, name: f"# A small function in Python.\n{prompt}",
    lambda prompt, name: prompt.replace('"""Return', '"""Compute and return'),
)
"""Other wordings of a prompt, taken in turn: another name, a comment before it, a longer sentence."""


class Called(Typed):
    """Arguments of a call, and what it has to give."""

    arguments: list[JsonValue]
    gives: JsonValue


class CodeTask(Typed):
    """A task of config/tasks.yaml."""

    name: str
    prompt: str
    """the head of a function and its sentence, to its last line break"""
    solution: str
    """a body that passes"""
    calls: list[Called]

    def worded(self, number: int) -> tuple[str, str]:
        """Return the prompt in another wording, and the name of its function. Args: number: of the task."""
        prompt = REWORDED[number % len(REWORDED)](self.prompt, self.name)
        return prompt, "solution" if "def solution(" in prompt else self.name


def read_tasks(path: str | Path, sha256: str, count: int) -> list[CodeTask]:
    """Return the first tasks of a file.

    Raises: TamperError: another file than was planned with; DataError: no list of tasks, or too few of them.
    """
    if sha256_once(path) != sha256:
        raise TamperError(f"{path}: changed since the run was planned; plan again")
    try:
        tasks = TypeAdapter(list[CodeTask]).validate_python(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        told = fault(error) if isinstance(error, ValidationError) else "is no YAML"
        raise DataError(f"{path}: {told}; see the tasks that are there") from error
    if len(tasks) < count:
        raise DataError(f"{path}: holds {len(tasks)} tasks and {count} are asked for; lower `code.tasks` of the scale")
    return tasks[:count]


class Writer(Protocol):
    """The frozen backbone, which goes on after prompts with a module attached, or with none."""

    def write(self, module: AbiModule | None, prompts: Sequence[str], way: Way, n_tokens: int, seed: int) -> Written:
        """Return continuations of at least one token."""

    def losses(self, module: AbiModule | None, written: Written) -> list[float]:
        """Return the mean CE in nats of every continuation under a module."""


def body_of(continuation: str) -> str:
    """Return what of a continuation belongs to the function: all before the first line that is not indented."""
    lines = continuation.split("\n")
    end = next((i for i, line in enumerate(lines) if line.strip() and not line[0].isspace()), len(lines))
    return "".join(f"{line}\n" for line in lines[:end])


def parses(prompt: str, body: str) -> bool:
    """Return whether prompt and body are one function of Python with a statement besides its docstring."""
    try:
        made = ast.parse(prompt + body).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return len(made) == 1 and isinstance(made[0], ast.FunctionDef) and len(made[0].body) > 1


def passes(task: CodeTask, prompt: str, name: str, body: str) -> bool:
    """Return whether a body gives what every call of its task has to give, run in the sandbox."""
    if not parses(prompt, body):
        return False
    answer = call(prompt + body, name, [called.arguments for called in task.calls])
    return answer.values is not None and all(map(same, answer.values, (called.gives for called in task.calls)))


def keyword_share(text: str) -> float:
    """Return the share of keywords of Python among the words of a text, 0 of none."""
    words = WORD.findall(text)
    return sum(keyword.iskeyword(word) for word in words) / len(words) if words else 0.0


def diversity(text: str) -> float:
    """Return the share of different words among the words of a text, 0 of none."""
    words = WORD.findall(text)
    return len(set(words)) / len(words) if words else 0.0


def alike(own: bool, other: bool, least: float) -> float:
    """Return a figure whose mean over tasks is above `least` exactly where the Jaccard index of two sets of tasks is.

    A task in both sets counts 1, in one of them 0, in none `least`.
    """
    return 1.0 if own and other else 0.0 if own or other else least


@dataclass
class CodeScores:
    """The code that the arms of one seed write, and its figures.

    Args: arms: name -> module, None for the plain backbone; the reference, which `alike` and `cross_ratio` compare
        with, is one of them.
    """

    asked: CodeOfExperiment
    tasks: list[CodeTask]
    writer: Writer
    arms: Mapping[str, AbiModule | None]
    seed: int
    _written: dict[tuple[str, str], Written] = field(default_factory=dict)
    _passed: dict[tuple[str, str], list[bool]] = field(default_factory=dict)
    _losses: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)

    def scores(self) -> Iterator[Score]:
        """Yield every figure that is asked for, of every arm: a value per task."""
        for metric in self.asked.metrics:
            figure, way = metric.split(".", 1)
            for arm in self.arms:
                values = [float(value) for value in getattr(self, figure)(arm, way)]
                yield Score(TASKS, Key("", arm), metric, torch.tensor(values, dtype=torch.float64))

    def prompts(self, way: str) -> list[tuple[str, str]]:
        """Return the prompt of every task and the name of its function."""
        varied = WAYS[way].varied
        return [task.worded(i) if varied else (task.prompt, task.name) for i, task in enumerate(self.tasks)]

    def written(self, arm: str, way: str) -> Written:
        """Return what an arm wrote; all arms of a seed draw with the same random numbers."""
        if (arm, way) not in self._written:
            prompts = [prompt for prompt, _ in self.prompts(way)]
            seed = derive_seed("code", way, self.seed)
            made = self.writer.write(self.arms[arm], prompts, WAYS[way], self.asked.tokens, seed)
            self._written[arm, way] = made
        return self._written[arm, way]

    def bodies(self, arm: str, way: str) -> list[str]:
        """Return the bodies that an arm wrote."""
        return [body_of(text) for text in self.written(arm, way).texts]

    def parses(self, arm: str, way: str) -> Iterable[bool]:
        """Return whether each body parses."""
        return [
            parses(prompt, body) for (prompt, _), body in zip(self.prompts(way), self.bodies(arm, way), strict=True)
        ]

    def passed(self, arm: str, way: str) -> list[bool]:
        """Return whether each body passes its task."""
        if (arm, way) not in self._passed:
            parts = zip(self.tasks, self.prompts(way), self.bodies(arm, way), strict=True)
            self._passed[arm, way] = [passes(task, prompt, name, body) for task, (prompt, name), body in parts]
        return self._passed[arm, way]

    def keywords(self, arm: str, way: str) -> Iterable[float]:
        """Return the share of keywords of each continuation, whole as in the original: it may go on after the body."""
        return map(keyword_share, self.written(arm, way).texts)

    def diversity(self, arm: str, way: str) -> Iterable[float]:
        """Return the share of different words of each continuation."""
        return map(diversity, self.written(arm, way).texts)

    def fails_alike(self, arm: str, way: str) -> Iterable[float]:
        """Return whether each task fails for arm and reference alike."""
        both = zip(self.passed(arm, way), self.passed(REFERENCE, way), strict=True)
        return [alike(not own, not other, FAILS_ALIKE) for own, other in both]

    def passes_alike(self, arm: str, way: str) -> Iterable[float]:
        """Return whether each task passes for arm and reference alike."""
        both = zip(self.passed(arm, way), self.passed(REFERENCE, way), strict=True)
        return [alike(own, other, PASSES_ALIKE) for own, other in both]

    def cross_ratio(self, arm: str, way: str) -> Iterable[float]:
        """Return per task the mean ratio of a text's perplexities under the other module and under its writer."""
        pairs = (arm, REFERENCE), (REFERENCE, arm)
        ratios = [zip(self.losses(other, own, way), self.losses(own, own, way), strict=True) for own, other in pairs]
        of_each = [[math.exp(min(cross - itself, MOST)) for cross, itself in ratio] for ratio in ratios]
        return [(one + two) / 2 for one, two in zip(*of_each, strict=True)]

    def losses(self, reader: str, writer: str, way: str) -> list[float]:
        """Return the losses of what one arm wrote under another."""
        if (reader, writer, way) not in self._losses:
            self._losses[reader, writer, way] = self.writer.losses(self.arms[reader], self.written(writer, way))
        return self._losses[reader, writer, way]


def task_rows(scores: Iterable[Score], tasks: Sequence[CodeTask], seed: int, n_tokens: int) -> Iterator[EvidenceRow]:
    """Yield the evidence rows of figures of generated code: a task is a document and a group of its own."""
    for one in scores:
        head = (one.key.fit, one.key.arm, one.key.draw, seed, one.scope)
        for task, value in zip(tasks, one.values.tolist(), strict=True):
            yield (*head, task.name, task.name, n_tokens, one.metric, value)


def attachable(name: str, model: object) -> AbiModule | None:
    """Return an arm as a live backbone takes it. Raises: DataError: it is no module."""
    if name == RAW or model is None:
        return None
    if not isinstance(model, AbiModule):
        raise DataError(f"experiment: arm {name} is no module that a backbone can run with; ask no code of it")
    return model
