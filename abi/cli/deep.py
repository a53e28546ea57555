"""`abi verify --deep`: the chain from the texts to the verdicts, hashed and, where that takes seconds, made again.

First every promise of every record is compared (`abi/audit/results/chain.py`). Then parts of what the records stand for
are made again by the code that made them: every text from its sources, states of one document per backbone, the
evidence of some documents of one seed per claim, the table of transfers, every verdict. The documents are drawn anew at
every call. Training is not made again: a module that somebody trained otherwise with this very code is not found.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from abi.audit.results.chain import Broken, Chain
from abi.audit.results.checkout import Render, published, verified
from abi.audit.results.findings import CODES, Finding
from abi.audit.results.recomputation import recompute
from abi.audit.results.staleness import flat, outdated
from abi.base.errors import AbiError, DataError, first_line
from abi.base.files import Json, checkout, read_tensors, sha256_file, write_tensors
from abi.base.job import Job
from abi.base.manifests.backbones import BackboneManifest
from abi.base.manifests.evidence import EvidenceManifest
from abi.base.manifests.overlaps import OverlapManifest
from abi.base.manifests.pages import TransfersManifest
from abi.base.manifests.states import StatesManifest
from abi.base.manifests.texts import TextManifest
from abi.base.typed import Document
from abi.judge.evidence_files import read_rows
from abi.plan.config import load
from abi.plan.workflow import Workflow

CLOSE = 1e-4
"""Of a metric's largest figure: how far a figure that is made again may be off. fp32 gives about 1e-6."""
SHARES = frozenset({"top1", "top5"})
"""Metrics that count positions, of which a tie may turn one over."""
D = TypeVar("D", bound=Document)
MADE_AGAIN = frozenset({"text", "states", "overlap", "evidence", "transfers", "result", "study", "ladder", "summary"})
"""Kinds of records of which all or some are made again: the rest is training, or the report."""
NOT_SAMPLED = frozenset({"lora", "train", "source_head"})
"""Inputs of evidence without which its other rows are the same: they give rows of their own."""


@dataclass
class Part:
    """One kind of thing that was looked at: how many were, what could not be and why, what is broken, and seconds."""

    name: str
    said: str = ""
    aside: list[str] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    seconds: float = 0.0

    @contextmanager
    def unless(self, path: str) -> Iterator[None]:
        """Run a block; where what it needs cannot be used, say why of `path` and go on."""
        try:
            yield
        except (AbiError, OSError, ValueError, LookupError) as error:
            self.aside.append(f"{path}: {first_line(error)}")


@dataclass
class Deep:
    """What was found of a run, part by part, from the texts to the verdicts."""

    results: str
    parts: list[Part] = field(default_factory=list)

    @property
    def broken(self) -> list[Broken]:
        """Return every broken link: those of hashes first, then what does not come out again."""
        return [link for part in self.parts for link in part.broken]

    @contextmanager
    def part(self, name: str) -> Iterator[Part]:
        """Yield a part whose seconds are taken."""
        found, start = Part(name), time.perf_counter()
        yield found
        found.seconds = round(time.perf_counter() - start, 1)
        self.parts.append(found)

    def text(self) -> str:
        """Return it for a terminal."""
        lines = [f"{self.results}: the chain from the texts to the verdicts"]
        for part in self.parts:
            lines.append(f"  {part.name:<9} {part.said} in {part.seconds} s")
            lines += [f"            not {aside}" for aside in part.aside]
        took = sum(part.seconds for part in self.parts)
        if not self.broken:
            return "\n".join([*lines, f"chain: whole, in {took:.0f} s"])
        more = f" ({len(self.broken) - 1} more after it)" if self.broken[1:] else ""
        return "\n".join([*lines, f"chain: first broken link, after {took:.0f} s: {self.broken[0].words()}{more}"])

    def as_dict(self) -> dict[str, Json]:
        """Return plain data for `--json`."""
        first = self.broken[0].words() if self.broken else None
        return {"code": int(bool(self.broken)), "first_broken": first, **asdict(self)}


def deep(results: Path, claims: Sequence[str], render: Render | None, draw: Random | None = None) -> Deep:
    """Return what is found of a run; what its hashes contradict is not made again.

    Args: results: `results/<scale>`, from the working directory; claims: only these; draw: chooses the documents.
    Raises: DataError: there is no result file of them.
    """
    draw, found = draw or SystemRandom(), Deep(str(results))
    scale = verified(results, published(), claims, render)
    finals = [str(file.path) for file in scale.results.values()] if claims else []
    if claims and not finals:
        raise DataError(f"{results}: holds no result file that can be read of {', '.join(claims)}; run it first")
    with found.part("hashes") as part:
        chain = Chain.of(results, finals)
        part.broken = chain.broken + chain.loose()
        part.said = f"{chain.links} promises of {len(chain.records)} records compared"
    if found.broken:
        return found
    again = Again({path: record.document for path, record in chain.records.items()}, draw)
    for name, function in again.parts().items():
        with found.part(name) as part:
            function(part)
    with found.part("verdicts") as part:
        recompute(scale, checkout())
        bad = [finding for finding in scale.findings if CODES[finding.kind]]
        part.broken = [as_link(finding) for finding in bad]
        part.said = f"{len(scale.recomputed)} judged again, {sum(scale.recomputed.values())} figures,"
    with found.part("others") as part:
        kinds = Counter(record.kind for record in again.records.values() if record.kind not in MADE_AGAIN)
        named = f" ({', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))})" if kinds else ""
        part.said = f"{kinds.total()} records compared by their hashes alone{named}"
    return found


def as_link(finding: Finding) -> Broken:
    """Return a finding about a result as a broken link: the file, what it says, what follows."""
    return Broken(finding.file, finding.file, f"leaf {finding.leaf}" if finding.leaf else "itself", finding.sentence)


class Again:
    """Makes parts of a run again. Args: records: path -> record, from the texts on; draw: chooses documents."""

    def __init__(self, records: dict[str, Document], draw: Random) -> None:
        self.records, self.draw = records, draw

    def parts(self) -> dict[str, Callable[[Part], None]]:
        """Return name -> what is made again, from the texts on."""
        return {
            "texts": self.texts,
            "states": self.states,
            "overlaps": self.overlaps,
            "evidence": self.evidence,
            "tables": self.tables,
        }

    def of(self, model: type[D]) -> dict[str, D]:
        """Return path -> record of one form."""
        return {path: record for path, record in self.records.items() if isinstance(record, model)}

    def one_of_each(self, groups: Mapping[str, str]) -> Iterator[str]:
        """Yield a path of every group, drawn. Args: groups: path -> group."""
        for group in dict.fromkeys(groups.values()):
            yield self.draw.choice(sorted(path for path in groups if groups[path] == group))

    def input_of(self, record: Any, model: type[Document]) -> str:
        """Return the one input of a record's job that is of a form. Raises: ValueError: none is, or several are."""
        [path] = [name for name in record.provenance.inputs if isinstance(self.records.get(name), model)]
        return path

    def texts(self, part: Part) -> None:
        """Build every text from its sources, and compare documents and splits."""
        from abi.plan.specs.text import BuildText
        from abi.text.corpus import build_text
        from abi.text.documents import assignment_sha256

        done = 0
        for path, record in self.of(TextManifest).items():
            with part.unless(path):
                spec = BuildText.model_validate(record.provenance.spec)
                found = assignment_sha256(build_text(spec).documents)
                done += 1
                if found != record.assignment_sha256:
                    words = f"documents and splits {record.assignment_sha256[:12]}", f"its sources give {found[:12]}"
                    part.broken.append(Broken(path, path, *words))
        part.said = f"{done} built again from their sources"

    def states(self, part: Part) -> None:
        """Run every backbone on one document of one text, and compare tokens and states with those that are stored."""
        done = 0
        for path in self.one_of_each({path: of.base_model for path, of in self.of(StatesManifest).items()}):
            with part.unless(path):
                broken = self.states_of(path, self.records[path])
                done += 1
                part.broken += [] if broken is None else [broken]
        part.said = f"of one document on {done} backbones computed again"

    def states_of(self, path: str, record: Any) -> Broken | None:
        """Compare the states of one document. Raises: AbiError: an input of them cannot be used."""
        import torch

        from abi.models.backbone import load_checked
        from abi.models.saved import read_states
        from abi.models.states import Window
        from abi.models.windows import windows_of
        from abi.plan.specs.models import WriteStates
        from abi.text.documents import read_assigned

        text, base = (self.input_of(record, model) for model in (TextManifest, BackboneManifest))
        spec, name = WriteStates.model_validate(record.provenance.spec), self.draw.choice(record.documents)
        documents = read_assigned(Path(text).with_suffix(".jsonl.gz"), text, record.split)
        backbone = load_checked(Path(base).with_suffix(""), self.records[base])  # type: ignore[arg-type]
        made = windows_of(backbone, [d for d in documents if d.document == name], record.split, spec)
        stored = read_states(path, record.split)
        own = (stored.document == record.documents.index(name)).nonzero().flatten()[: len(made.tokens)]
        tensors, words = Path(path).with_suffix(".safetensors"), f"the states of {name}"
        if not torch.equal(stored.tokens(own), made.tokens[: len(own)]):
            return Broken(path, str(tensors), words, "its text gives other tokens")
        with torch.inference_mode():
            hidden = backbone.hidden_states(made.tokens[: len(own)], Window.of(spec.window))
        close = max(CLOSE, backbone.tolerance)
        for tap in record.taps:
            kept, again = stored.taps([tap], own)[:, :, 0], hidden[tap].float()
            off = float((kept - again).abs().max() / again.abs().max())
            if not off <= close:
                return Broken(
                    path, str(tensors), words, f"the backbone gives others (tap {tap}, {100 * off:.2g} % off)"
                )
        return None

    def overlaps(self, part: Part) -> None:
        """Compare what the test documents of every text share with train, as one backbone scores them."""
        from abi.models.saved import read_states
        from abi.steps.measure_overlap import overlaps
        from abi.text.documents import read_assigned

        found, done = self.of(OverlapManifest), 0
        for path in self.one_of_each({path: record.text for path, record in found.items()}):
            with part.unless(path):
                record = found[path]
                text, states = (self.input_of(record, model) for model in (TextManifest, StatesManifest))
                documents = read_assigned(Path(text).with_suffix(".jsonl.gz"), text)
                again = overlaps(documents, read_states(states, "test"))
                done += 1
                if other := [name for name in again if again[name] != record.documents.get(name)]:
                    words = f"what {other[0]} shares with train", f"its text gives {again[other[0]].in_train:g}"
                    part.broken.append(Broken(path, path, *words))
        part.said = f"of {done} texts measured again"

    def evidence(self, part: Part) -> None:
        """Score the arms of one seed per claim again on some documents, and compare the rows of evidence."""
        found, rows = self.of(EvidenceManifest), 0
        claims = {path: Path(path).parts[-2] for path, of in found.items() if of.provenance.rule == "evaluate_arms"}
        for path in self.one_of_each(claims):
            with part.unless(path):
                n, broken = self.evidence_of(claims[path], path, found[path])
                rows += n
                part.broken += [] if broken is None else [broken]
        several = len(found) - len(claims)
        part.aside += [f"of claims made of several studies ({several} files)"] if several else []
        part.said = f"{rows} rows of {len({*claims.values()})} claims scored again"

    def evidence_of(self, claim: str, path: str, record: Any) -> tuple[int, Broken | None]:
        """Compare the rows of one seed on some documents; return how many, and the first that differs.

        Raises: AbiError: an input cannot be used, or configuration names others now.
        """
        from abi.plan.specs.arms import EvaluateArms
        from abi.steps import evaluate_arms

        made, place = record.provenance, Path(path)
        workflow = Workflow(load(place.parts[1]))
        named = workflow.of(claim).evidence_input(place.stem)
        if other := {*made.inputs} ^ {file for file in flat(named) if Path(file).is_file()}:
            if not outdated(workflow, path, made):
                words = "the inputs of its job", f"{min(other)} is {'none' if min(other) in made.inputs else 'lacking'}"
                return 0, Broken(path, path, *words)
            raise DataError("is not scored again: the configuration names other inputs now")
        seed = self.draw.choice(made.spec["seeds"])
        spec = EvaluateArms.model_validate(made.spec | {"seeds": [seed]})
        with TemporaryDirectory() as scratch:
            inputs: dict[str, Any] = {key: value for key, value in named.items() if key not in NOT_SAMPLED}
            whole: dict[str, set[str]] = {}
            for scope in ("domain", "general"):
                inputs.pop(f"source_{scope}", None)
                inputs[scope], whole[scope] = self.part_of(inputs[scope], spec.windows_per_batch, Path(scratch, scope))
            outputs = {"evidence": "e.csv.gz", "draws": "e.draws.csv.gz", "manifest": "e.json"}
            outputs = {key: str(Path(scratch, name)) for key, name in outputs.items()}
            job = Job("evaluate_arms", spec, made.code, [], made.threads)
            evaluate_arms.run(job, inputs, outputs)
            again = values_of(outputs["evidence"], seed, whole)
        stored = values_of(str(place.with_suffix(".csv.gz")), seed, whole)
        for key in again:
            if key not in stored:
                return len(again), Broken(
                    path, str(place.with_suffix(".csv.gz")), "all rows", f"{told(key)} is not there"
                )
        off = compare(stored, again)
        if off is None:
            return len(again), None
        words = f"{told(off)} = {stored[off][0]:g}", f"arms and states give {again[off][0]:g}"
        return len(again), Broken(path, str(place.with_suffix(".csv.gz")), *words)

    def part_of(self, manifest: str, per_batch: int, place: Path) -> tuple[str, set[str]]:
        """Write the windows around one document as states of their own; return their manifest and the whole documents.

        They begin and end where the batches of the evaluation do, so that the same numbers are added in the same order.
        """
        from abi.models.saved import read_states

        states = read_states(manifest, "test")
        document, names = states.document.tolist(), states.manifest.documents
        around = self.draw.randrange(len(names))
        index = [i for i, d in enumerate(document) if d == around]
        first, last = index[0] // per_batch * per_batch, -(-(index[-1] + 1) // per_batch) * per_batch
        windows = list(range(first, min(last, len(document))))
        chosen = states.select(windows)
        tensors, _ = read_tensors(Path(manifest).with_suffix(".safetensors"))
        kept = {name: tensor[windows] for name, tensor in tensors.items()} | {"document": chosen.document.int()}
        file = place.with_suffix(".test.safetensors")
        write_tensors(file, kept)
        chosen.manifest.model_copy(update={"tensors_sha256": sha256_file(file)}).write(place.with_suffix(".test.json"))
        inside = {document[i] for i in windows}
        whole = {d for d in inside if document.count(d) == sum(document[i] == d for i in windows)}
        return str(place.with_suffix(".test.json")), {names[d] for d in whole}

    def tables(self, part: Part) -> None:
        """Make the table of transfers again from its result files, and compare every file of it."""
        from abi.plan.specs.report import TabulateTransfers
        from abi.steps import tabulate_transfers

        found = self.of(TransfersManifest)
        for path, record in found.items():
            made = record.provenance
            with TemporaryDirectory() as scratch:
                ends = {"markdown": ".md", "csv": ".csv", "figure": ".svg", "record": ".json"}
                outputs = {key: str(Path(scratch, Path(path).stem + end)) for key, end in ends.items()}
                spec = TabulateTransfers.model_validate(made.spec)
                tabulate_transfers.run(Job(made.rule, spec, made.code, [], made.threads), [*made.inputs], outputs)
                again = {Path(name).name: sha256_file(name) for name in outputs.values() if not name.endswith(".json")}
            for name, sha256 in record.files.items():
                if again[name] != sha256:
                    words = f"sha256 {sha256[:12]}", f"its results give {again[name][:12]}"
                    part.broken.append(Broken(path, str(Path(path).with_name(name)), *words))
        part.said = f"{len(found)} made again from their results"


Key = tuple[str, ...]


def values_of(path: str, seed: int, whole: dict[str, set[str]]) -> dict[Key, tuple[float, int]]:
    """Return fit, arm, draw, scope, document, metric -> value and positions, of a seed on some documents."""
    rows = read_rows(path)
    rows = rows[(rows["seed"] == str(seed)) & rows["scope"].isin(list(whole))]
    keys = zip(*(rows[name] for name in ("fit", "arm", "draw", "scope", "document", "metric")), strict=True)
    values = zip(rows["value"].astype(float), rows["n_positions"].astype(int), strict=True)
    return {key: value for key, value in zip(keys, values, strict=True) if key[4] in whole[key[3]]}


def compare(stored: dict[Key, tuple[float, int]], again: dict[Key, tuple[float, int]]) -> Key | None:
    """Return the row that is furthest off, None where every one is close enough."""
    size: dict[str, float] = {}
    for key in again:
        size[key[-1]] = max(size.get(key[-1], 0.0), abs(stored[key][0]), abs(again[key][0]))
    beyond = {}
    for key, (value, n) in again.items():
        allowed = CLOSE * size[key[-1]] + (1.01 / n if key[-1] in SHARES else 0.0)
        off = abs(stored[key][0] - value)
        if not off <= allowed:
            beyond[key] = off / allowed if allowed else off
    return max(beyond, key=lambda key: beyond[key]) if beyond else None


def told(key: Key) -> str:
    """Return a row in words."""
    fit, arm, draw, scope, document, metric = key
    return f"{metric} of {arm} ({fit}, draw {draw}) on {document} ({scope})"
