"""Hostile configuration: whatever stands in config/, the answer is a configuration or sentences, and it comes soon."""

import os
import random
import re
import shutil
import time
from pathlib import Path

import pytest
import yaml

from abi.base.errors import ConfigError
from abi.plan.config import MAKE_WORDS, load
from abi.plan.workflow import Workflow

ROOT = Path(__file__).parents[2]
FILES = ("claims.yaml", "scales/tiny.yaml", "protocol.yaml")
LONG = "1" + "0" * 310
SCALARS = (
    "!!int ''", "!!float ''", "!!bool abc", "!!null x", "!!timestamp x", "!!binary é", "!!str [a]", "!!map a", "!!seq a",
    "!!set {a: 1}", "!!omap [a]", "!!python/object/apply:os.system [x]", LONG, f"-{LONG}", "1" * 5000, "1e400", ".nan",
    "-.inf", "0x" + "f" * 300, "0b1", "0o17", "1:30", "1_000", "2020-13-45", "2020-01-01", "yes", "~", "''", '"\\n"',
    '"a\\nb"', '"a.json\\n"', '"\\0"', '"\\ud800"', '"\\x1b[31m"', "'../../etc/passwd'", "/etc/passwd", "'~/x'", "'{x}'",
    "'*'", "'**/../..'", "*nobody", "&a [*a]", "&b {x: *b}", "{<<: 3}", "{? [1]: 2}", "[", "]", "{", "- -", "\t", "|", ">",
    "@", "%", "'", '"', "\ufeff", "\u202e", "-1", "0", "-0.0", "1e-320", "[]", "{}", "[[[[]]]]", "True", "'' ''",
    "a" * 100_000, "[" * 500, "!!int " + LONG, "!<x> y", "!", "&", "$(id)", "`id`", "__class__", "clean", "all",
)  # fmt: skip
VALUES = (
    None, True, -1, 0, 1, 10**12, 10**13, 10**310, -(10**310), 1.5, 1e308, -1e-308, "", "x", "a\n", "../x", "/etc", "a b",
    "é", "\u202e", "x" * 10_000, [], {}, [None], [[]], {"a": 1}, {"": ""}, [1, 1], ["a", "a"], {"kind": "folder"},
    {"kind": "folder", "path": "/", "pattern": "../**"}, {"build": {}, "hub": {}},
)  # fmt: skip
N, SAMPLE = 500, 40


def places(node, path=()):
    """Yield the path of every value of a document."""
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


def with_value(text, draw):
    content = yaml.load(text, yaml.CSafeLoader)
    *outer, last = draw.choice(list(places(content)))
    at = content
    for key in outer:
        at = at[key]
    match draw.randrange(4):
        case 0:
            del at[last]
        case 1 if isinstance(at, dict):
            at[draw.choice(["x", "../x", "a\n", "a b", "clean", "É", *at])] = at.pop(last)
        case 2:
            donor = content
            for key in draw.choice(list(places(content))):
                donor = donor[key]
            at[last] = yaml.load(yaml.dump(donor, Dumper=yaml.CSafeDumper), yaml.CSafeLoader)
        case _:
            at[last] = draw.choice(VALUES)
    return yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)


def with_scalar(text, draw):
    lines = text.split("\n")
    keyed = [i for i, line in enumerate(lines) if re.match(r"\s*[\w-]+: \S", line)]
    i = draw.choice(keyed)
    lines[i] = lines[i].partition(": ")[0] + ": " + draw.choice(SCALARS)
    return "\n".join(lines)


def with_key(text, draw):
    lines = text.split("\n")
    i = draw.choice([i for i, line in enumerate(lines) if re.match(r"\s*[\w-]+:", line)])
    indent, _, rest = re.match(r"(\s*)([\w-]+)(:.*)", lines[i]).groups()
    lines[i] = indent + draw.choice([s for s in SCALARS if len(s) < 5000]) + rest
    return "\n".join(lines)


def with_lines(text, draw):
    lines = text.split("\n")
    i, j = sorted(draw.sample(range(len(lines)), 2))
    match draw.randrange(4):
        case 0:
            lines[i:i] = lines[i : i + 5]
        case 1:
            del lines[i : i + draw.randrange(1, 8)]
        case 2:
            lines[i], lines[j] = lines[j], lines[i]
        case _:
            lines[i] = " " * draw.randrange(5) + lines[i].lstrip()
    return "\n".join(lines)


def with_bytes(text, draw):
    data = bytearray(text.encode())
    for _ in range(draw.randrange(1, 6)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data[: draw.choice([len(data), len(data), draw.randrange(len(data))])])


def with_bomb(text, draw):
    """Aliases that double, or that name what they are part of, under a place where any keys may stand."""
    doubling = "a0: &a0 [x, x], " + "".join(
        f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}], " for i in range(1, draw.randrange(17, 60))
    )
    added = draw.choice([doubling, "a: &a {b: *a}, ", "a: &a [[[*a]]], "])
    return re.sub(r"(?m)^( *config: \{)", lambda found: found[0] + added, text, count=1)


MUTATORS = (with_value, with_value, with_scalar, with_scalar, with_key, with_lines, with_bytes, with_bomb)


def answer(root):
    """Return the sentences a configuration is refused with, none if it is good; anything else is a fault."""
    try:
        workflow = Workflow(load("tiny", root))
    except ConfigError as error:
        sentences = str(error).split("\n")
        assert all(re.match(r"(/\S*/)?config\b.*[\w)'\]`:]$", line) and line.isprintable() for line in sentences), (
            sentences
        )
        return sentences
    for name in workflow.listed("summary"):
        assert re.fullmatch(r"results/tiny/[a-z0-9_]+\.json", workflow.result_file(name))
        assert name not in MAKE_WORDS
    for text in workflow.scale.texts:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", text)
        workflow.text_spec(text)
    for backbone in workflow.scale.backbones:
        assert re.fullmatch(r"results/tiny/backbones/[a-z][a-z0-9_]*\.json", workflow.backbone(backbone))
        workflow.backbone_spec(backbone)
    return []


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    shutil.copytree(ROOT / "config", root / "config")
    return root


def mutated(root, seed):
    """Write one mutated file into a configuration; return how to put it back."""
    draw = random.Random(seed)
    mutate = MUTATORS[seed % len(MUTATORS)]
    path = root / "config" / (FILES[1] if mutate is with_bomb else draw.choice(FILES))
    text = path.read_text(encoding="utf-8")
    made = mutate(text, draw)
    assert made != text or mutate in (with_lines, with_bytes, with_value)
    path.write_bytes(made if isinstance(made, bytes) else made.encode("utf-8", "surrogatepass"))
    return path, text


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(SAMPLE), id="sample"),
        pytest.param(range(SAMPLE, N), id="all", marks=[pytest.mark.long]),
    ],
)
@pytest.mark.timeout(900)
def test_a_mutated_configuration_is_sentences_or_a_configuration(root, seeds):
    refused, slowest = 0, 0.0
    for seed in seeds:
        path, text = mutated(root, seed)
        start = time.process_time()
        try:
            refused += bool(answer(root))
        except Exception as error:
            error.add_note(f"seed {seed}: {MUTATORS[seed % len(MUTATORS)].__name__} of {path.name}")
            raise
        finally:
            path.write_text(text, encoding="utf-8")
        slowest = max(slowest, time.process_time() - start)
    print(f"{len(seeds)} configurations, {refused} refused, {len(seeds) - refused} accepted; {slowest:.2f} s at most")
    assert refused > len(seeds) / 2
    assert slowest < 20


@pytest.mark.parametrize("seed", [s for s in range(40) if MUTATORS[s % len(MUTATORS)] is with_bomb])
def test_a_bomb_of_aliases_is_refused(root, seed):
    path, text = mutated(root, seed)
    try:
        [sentence] = answer(root)
    finally:
        path.write_text(text, encoding="utf-8")
    assert re.search("an alias names what it is part of|more than 100000 values", sentence)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: os.mkfifo(path), "it is no file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is no file"),
        (lambda path: path.symlink_to(path.name), "cannot be read"),
        (lambda path: path.mkdir(), "it is no file"),
        (lambda path: (path.touch(), os.truncate(path, 2**40)), "it has more than"),
        (lambda path: None, "does not exist|no scale"),
    ],
    ids=["fifo", "device", "loop", "folder", "sparse", "missing"],
)
@pytest.mark.timeout(30)
def test_something_else_than_a_file_is_one_sentence(tmp_path, name, make, words):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "config" / name).unlink()
    make(tmp_path / "config" / name)
    [sentence] = answer(tmp_path)
    assert re.search(words, sentence)


@pytest.mark.parametrize("word", sorted(MAKE_WORDS))
def test_a_claim_cannot_take_a_word_of_the_makefile(tmp_path, word):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config/claims.yaml"
    path.write_text(re.sub(r"(?m)^  cross_size:", f"  {word}:", path.read_text()))
    assert any("is a word of the Makefile" in line or "is the name of a rule" in line for line in answer(tmp_path))


def test_the_words_of_the_makefile_are_known():
    words = set(re.findall(r"(?m)^([a-z][a-z_]*):", (ROOT / "Makefile").read_text()))
    assert words - {"reproduce"} == set(MAKE_WORDS)


@pytest.mark.parametrize("file", ["a.json\n", "../a.json", "a/b.json", "A.json", ".json", "a.json "])
def test_a_result_file_is_a_name_in_the_results(tmp_path, file):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config/claims.yaml"
    content = yaml.load(path.read_text(), yaml.CSafeLoader)
    for claim in ("t5_to_gpt2", "t5_update", "cross_size", "domain_atlas", "calibration_scaling", "reproduce"):
        content["claims"][claim]["record"]["result_file"] = file
    path.write_text(yaml.dump(content, Dumper=yaml.CSafeDumper))
    assert len([line for line in answer(tmp_path) if "record.result_file" in line]) == 6
