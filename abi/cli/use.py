"""The commands on models and texts of one's own: `train`, `distill`, `transfer`, `evaluate`, `compare`, `push`."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from abi.base.errors import DataError
from abi.base.files import write_text
from abi.cli.options import AsJson
from abi.cli.outputs import OutFolder
from abi.cli.watching import Watcher

if TYPE_CHECKING:
    from abi.api.modules import Module
    from abi.api.scoring import Evaluation

COMPARED = ("comparison.json", "comparison.md")

Model = Annotated[str, Option(metavar="MODEL", help="folder of a model of transformers, or its id on the hub")]
Revision = Annotated[
    str | None, Option(metavar="REV", help="branch, tag or commit of a model of the hub", show_default="the newest")
]
Source = Annotated[str, Option(metavar="MODEL", help="the model that the module was trained beside")]
Target = Annotated[str, Option(metavar="MODEL", help="the model that the module moves to")]
Saved = Annotated[str, Option(metavar="MODULE", help="folder of a saved module, or its id on the hub")]
Texts = Annotated[list[Path], Option(metavar="PATH", help="text of the domain: a folder, .txt, .md, .py or .jsonl")]
General = Annotated[list[Path] | None, Option(metavar="PATH", help="text of anything else", show_default="none")]
ADAPTER_PLACE = "folder of a LoRA adapter that PEFT saved, or its id on the hub"
Out = Annotated[Path, Option(metavar="DIR", help="folder to write")]
Force = Annotated[bool, Option("--force", help="replace --out, if abi wrote it")]
Steps = Annotated[
    int | None, Option(metavar="N", help="steps of calibration", show_default="300, few-shot 100; large models 150, 60")
]
Window = Annotated[int, Option(metavar="N", help="tokens per window")]
Seed = Annotated[int, Option(metavar="N", help="1 or more")]


def train(
    model: Model,
    texts: Texts,
    out: Out,
    revision: Revision = None,
    kind: Annotated[str, Option(help="module, portable (needs --general-texts) or ngram (counts)")] = "module",
    general_texts: General = None,
    name: Annotated[str, Option(help="name of the domain")] = "domain",
    steps: Annotated[
        int | None,
        Option(metavar="N", help="steps of training", show_default="500, portable 800; large models 150, 400"),
    ] = None,
    d_abi: Annotated[
        int | None, Option(metavar="N", help="width of the module", show_default="from the model's; portable 64")
    ] = None,
    taps: Annotated[
        list[str] | None,
        Option(metavar="TAP", help="a hidden state the module reads, its number or `final`", show_default="final"),
    ] = None,
    rates: Annotated[
        list[float] | None, Option(metavar="X", help="a learning rate to try", show_default="3e-3 and 1e-2")
    ] = None,
    window: Window = 128,
    seed: Seed = 1,
    force: Force = False,
    as_json: AsJson = False,
) -> int:
    """Train a module and write its folder."""
    import abi
    from abi.api.training import require_training

    place = _module_folder(out, force)
    given: Any = {"name": name, "d_abi": d_abi, "steps": steps, "window": window, "seed": seed, "keep": place.parts}
    given |= {} if taps is None else {"taps": [int(tap) if tap.isdecimal() else tap for tap in taps]}
    given |= {} if rates is None else {"rates": rates}
    asked = {key: value for key, value in given.items() if key != "keep"}
    require_training(kind, general_texts, **asked)  # type: ignore[arg-type]
    read = _read(texts=texts, general_texts=general_texts)
    with _watched(place.parts):
        made = abi.train(_loaded(model, revision), None, kind=kind, **read, **given)  # type: ignore[arg-type]
    _write(made, place)
    following = f"abi evaluate {_named('model', model, revision)} --module {quote(str(out))}"
    return _told(made, place, as_json, f"{following} --texts {quote(str(texts[0]))}{_sized(window)}")


def distill(
    model: Model,
    adapter: Annotated[str, Option(metavar="ADAPTER", help=ADAPTER_PLACE)],
    texts: Texts,
    general_texts: Annotated[list[Path], Option(metavar="PATH", help="text of anything else")],
    out: Out,
    revision: Revision = None,
    name: Annotated[str, Option(help="name of the domain")] = "domain",
    steps: Annotated[
        int | None, Option(metavar="N", help="steps of training", show_default="800; large models 400")
    ] = None,
    d_abi: Annotated[int | None, Option(metavar="N", help="width of the module", show_default="64")] = None,
    window: Window = 128,
    seed: Seed = 1,
    force: Force = False,
    as_json: AsJson = False,
) -> int:
    """Distil a LoRA adapter into a portable module, write its folder, and say how much of the adapter it holds."""
    import abi
    from abi.api.training import require_training

    asked: Any = {"d_abi": d_abi, "steps": steps, "window": window, "seed": seed}
    require_training("portable", general_texts, name=name, call="distill", **asked)  # type: ignore[arg-type]
    read = _read(texts=texts, general_texts=general_texts)
    place, base = _module_folder(out, force), _loaded(model, revision)
    with _watched(place.parts):
        made = abi.distill(base, None, adapter, **read, name=name, keep=place.parts, **asked)
        _write(made, place)  # whoever is killed while it is evaluated has it
        try:
            found = abi.evaluate(base, made, texts, adapter=adapter, window=window)
        except DataError as error:
            found = None
            print(f"abi: not evaluated: {error}", file=sys.stderr)
    following = f"abi transfer --module {quote(str(out))} {_named('source', model, revision)} --target MODEL --out DIR"
    return _told(made, place, as_json, following, found=found)


def transfer(
    module: Saved,
    target: Target,
    out: Out,
    source: Annotated[
        str | None,
        Option(metavar="MODEL", help="the model it was trained beside", show_default="none: portable, ngram"),
    ] = None,
    source_revision: Revision = None,
    target_revision: Revision = None,
    general_texts: General = None,
    domain_texts: Annotated[
        list[Path] | None, Option(metavar="PATH", help="text of the domain for the target", show_default="none")
    ] = None,
    teacher: Annotated[
        str | None, Option(metavar="MODULE", help="a module of the target that teaches", show_default="none")
    ] = None,
    steps: Steps = None,
    window: Window = 128,
    seed: Seed = 1,
    force: Force = False,
    as_json: AsJson = False,
) -> int:
    """Move a module to another model and write its folder."""
    import abi
    from abi.api.transferring import needed, regime_of, require_moving

    require_moving(steps=steps, window=window, seed=seed)
    read = _read(general_texts=general_texts, domain_texts=domain_texts)
    place, moving = _module_folder(out, force), abi.Module.from_pretrained(module)
    if not moving.anywhere:
        needed(source, general_texts)
        regime_of(domain_texts, teacher)
    teaches = None if teacher is None else abi.Module.from_pretrained(teacher)
    with _watched(place.parts):
        of_source = None if source is None or moving.anywhere else _loaded(source, source_revision, moving)
        moved = abi.transfer(
            moving,
            of_source,
            _loaded(target, target_revision, teaches),
            **read,
            teacher=teaches,
            steps=steps,
            window=window,
            seed=seed,
            keep=place.parts,
        )
    _write(moved, place)
    size = _sized(window)
    moved_to = f"{_named('model', target, target_revision)} --module {quote(str(out))}"
    following = [f"abi evaluate {moved_to} --texts PATH{size}"]
    if moved.kind != "ngram" and not (moved.record and moved.record.adapter):  # what `compare` refuses
        beside = "--source MODEL" if source is None else _named("source", source, source_revision)
        both = f"{beside} {_named('target', target, target_revision)}"
        regime = f" --regime {moved.record.regime}" if moved.record and not moving.anywhere else ""
        general = " ".join(f"--general-texts {quote(str(path))}" for path in general_texts or [Path("PATH")])
        following.append(f"abi compare --module {quote(module)} {both}{regime} --texts PATH {general}{size}")
    return _told(moved, place, as_json, *following)


def evaluate(
    model: Model,
    module: Saved,
    texts: Texts,
    revision: Revision = None,
    adapter: Annotated[str | None, Option(metavar="ADAPTER", help=ADAPTER_PLACE, show_default="none")] = None,
    window: Window = 128,
    max_windows: Annotated[int, Option(metavar="N", help="most windows to read")] = 400,
    level: Annotated[float, Option(metavar="X", help="level of the intervals")] = 0.95,
    as_json: AsJson = False,
) -> int:
    """Print bits per byte of texts without and with a module, and how much of an adapter's gain it holds."""
    import abi
    from abi.api.scoring import require_scoring
    from abi.api.texts import absent

    require_scoring(window=window, max_windows=max_windows, level=level)
    for path in texts:
        if not path.exists():
            raise absent(path, "texts")
    with _watched():
        saved = abi.Module.from_pretrained(module)
        found = abi.evaluate(
            _loaded(model, revision, saved),
            saved,
            texts,
            adapter=adapter,
            window=window,
            max_windows=max_windows,
            level=level,
        )
    print(found.model_dump_json(indent=1) if as_json else found)
    return 0


def compare(
    source: Source,
    target: Target,
    texts: Texts,
    general_texts: Annotated[list[Path], Option(metavar="PATH", help="text of anything else")],
    source_revision: Revision = None,
    target_revision: Revision = None,
    module: Annotated[
        str | None, Option(metavar="MODULE", help="a saved module of the source", show_default="all are trained here")
    ] = None,
    kind: Annotated[str | None, Option(help="without --module: module or portable", show_default="module")] = None,
    regime: Annotated[
        str | None,
        Option(help="oracle-kd, few-shot or general-only", show_default="few-shot; of a portable one zero-text"),
    ] = None,
    other_texts: Annotated[
        list[Path] | None,
        Option(metavar="PATH", help="text of another domain, a control", show_default="--general-texts"),
    ] = None,
    seeds: Annotated[int, Option(metavar="N", help="a verdict needs 3")] = 3,
    lora: Annotated[bool, Option(help="train LoRA adapters of equal size, too")] = True,
    steps: Steps = None,
    train_steps: Annotated[
        int | None,
        Option(metavar="N", help="steps of training", show_default="500, portable 800; large models 150, 400"),
    ] = None,
    window: Window = 128,
    out: Annotated[Path | None, Option(metavar="DIR", help="folder to write", show_default="none")] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> int:
    """Print whether moving is better than retraining, with everything that this rests on."""
    import abi
    from abi.api.comparing import require_comparing

    place = None if out is None else OutFolder(out, COMPARED, force=force)
    parts = None if place is None else place.parts
    if module is not None and kind is not None:
        raise DataError("compare: --module says what kind it is; leave out --kind")
    moving: Any = (kind or "module") if module is None else abi.Module.from_pretrained(module)
    numbers = {"seeds": seeds, "steps": steps, "train_steps": train_steps, "window": window}
    require_comparing(moving, regime, **numbers)  # type: ignore[arg-type]
    read = _read(texts=texts, general_texts=general_texts, other_texts=other_texts)
    asked: dict[str, Any] = {"regime": regime, "lora": lora, "keep": parts, **numbers}
    with _watched(parts):
        of_source = _loaded(source, source_revision, None if module is None else moving)
        found = abi.compare(moving, of_source, _loaded(target, target_revision), **read, **asked)
    if place is not None:
        with place.written() as folder:
            write_text(folder / COMPARED[0], found.model_dump_json(indent=1) + "\n")
            write_text(folder / COMPARED[1], found.markdown() + "\n")
    print(found.model_dump_json(indent=1) if as_json else found)
    return 0


def push(
    module: Annotated[Path, Argument(metavar="DIR", help="folder of a saved module")],
    repository: Annotated[str, Argument(metavar="USER/NAME", help="where to; it is made if it is not there")],
    private: Annotated[bool, Option("--private", help="others do not see it")] = False,
    message: Annotated[str, Option(metavar="TEXT", help="message of the commit")] = "Upload module",
    as_json: AsJson = False,
) -> int:
    """Upload a saved module to the hub."""
    import abi

    if not module.is_dir():
        raise DataError(f"{module}: is no folder; give that of a saved module")
    shared = abi.Module.from_pretrained(module)
    address = shared.push_to_hub(repository, private=private, message=message)
    print(json.dumps({"module": shared.sha256, "address": address}, indent=1) if as_json else address)
    return 0


def _read(**texts: list[Path] | None) -> Any:
    """Return option -> its documents, read before a model is loaded. Args: texts: option -> paths."""
    from abi.api.texts import documents_of

    return {name: paths if paths is None else documents_of(paths, name) for name, paths in texts.items()}


def _loaded(place: str, revision: str | None, module: "Module | None" = None) -> Any:
    """Return the model of a folder, or of the hub at a revision. Args: module: in whose precision it is loaded."""
    from abi.api.loading import load_backbone
    from abi.api.progress import part

    with part("models", f"loading {place}", 0.0):
        return load_backbone(place, revision, "float32" if module is None else module.dtype)


def _named(role: str, place: str, revision: str | None) -> str:
    """Return the options that name a model. Args: role: `model`, or `source`."""
    option = "--revision" if role == "model" else f"--{role}-revision"
    return f"--{role} {quote(place)}" + (f" {option} {quote(revision)}" if revision else "")


def _module_folder(out: Path, force: bool) -> OutFolder:
    """Return the folder that a module is written to. Raises: DataError: it is there and may not be replaced."""
    from abi.api.modules import RECORD
    from abi.models.module import CARD, CONFIG, WEIGHTS

    return OutFolder(out, (CONFIG, WEIGHTS, CARD, RECORD), force=force)


def _write(made: "Module", place: OutFolder) -> None:
    """Write a module's folder."""
    with place.written() as folder:
        made.save_pretrained(folder)


def _sized(window: int) -> str:
    """Return the option of a command that follows one with a window."""
    return "" if window == 128 else f" --window {window}"


def _told(made: "Module", place: OutFolder, as_json: bool, *following: str, found: "Evaluation | None" = None) -> int:
    """Say what was made and written, what it is worth where that was asked, and which commands may follow."""
    record = made.record
    assert record is not None
    told = {
        "out": str(place.path),
        "module": made.sha256,
        "kind": made.kind,
        "parameters": made.n_parameters,
        "record": record.model_dump(mode="json", exclude={"seen", "format", "seal"}) | {"seen": len(record.seen)},
    }
    told |= {"evaluation": found.model_dump(mode="json")} if found else {}
    plain = record.loss is None or record.regime == "zero-text"  # whose record is that of its training
    loss = "nothing was fitted" if plain else f"{record.steps} steps, last loss {record.loss:.4f} nats"
    worth = [] if found is None else [str(found)]
    lines = [f"{made}\n{loss}" + ("" if plain else f", {record.seconds:.1f} s"), *worth, f"written: {place.path}"]
    said = "\n".join([*lines, *(f"next: {command}" for command in following)])
    print(json.dumps(told, indent=1) if as_json else said)
    return 0


@contextmanager
def _watched(parts: Path | None = None) -> Iterator[None]:
    """Show how far a block is; an interruption says what is kept. Args: parts: where finished parts lie."""
    from abi.api.progress import watched

    watcher = Watcher()
    try:
        with watched(watcher):
            yield
    except KeyboardInterrupt:
        kept = parts is not None and parts.exists()
        raise KeyboardInterrupt(*([f"the same command goes on from the parts in {parts}"] if kept else [])) from None
    finally:
        watcher.end()
