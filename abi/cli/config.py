"""Commands on the configuration and the checkout: `check`, `pin`, `docs`.

None imports torch, but for a check of a scale that names a card.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Annotated

import yaml
from typer import Option

from abi.audit.results.adopted import BENCHMARKS, INSTRUMENT, adopt, carry
from abi.audit.results.places import write_manifest
from abi.base.compute import decided
from abi.base.errors import ConfigError, DataError, NoAnswer
from abi.base.files import ROOT, checkout, write_text
from abi.base.hub import Repository, Snapshot, Wanted, data_files, files_beside_weights, look_up
from abi.base.wording import number
from abi.cli.options import Scale
from abi.plan import DEFAULT
from abi.plan.config import Config, few_groups, load, schema_files
from abi.plan.measured import REFERENCE
from abi.plan.scale import UNPINNED
from abi.plan.scale import Scale as PlannedScale
from abi.plan.specs.judge import LawClaim
from abi.plan.specs.shared import Pinned
from abi.plan.workflow import Workflow
from abi.plan.yaml_files import Lock, read_lock, read_scale
from abi.report.quoted import generated_files, generated_parts, refreshed


def check(
    scale: Scale = DEFAULT,
    claim: Annotated[list[str] | None, Option(help="also check that this claim exists")] = None,
) -> int:
    """Validate the configuration of a scale and say what it holds."""
    print("\n".join(checked(scale, claim or ())))
    return 0


def checked(scale: str, claims: Sequence[str], root: Path | None = None) -> list[str]:
    """Return what there is to say of a valid configuration. Args: claims: that must be in it; root: as for `load`.

    Raises: ConfigError: it is not valid.
    """
    workflow = Workflow(load(scale, root))
    for name in claims:
        workflow.claim(name)
    workflow.config.require_inputs(claims)
    missing = workflow.scale.unpinned()
    listed = workflow.listed("summary")
    said = [f"scale {scale}: {number(len(listed), 'claim')} ({', '.join(listed)}), configuration valid"]
    if workflow.config.pending:
        said.append(f"pending, for other scales: {', '.join(workflow.config.pending)}")
    if missing:
        said.append(f"not pinned yet: {', '.join(missing)} (`abi pin --scale {scale}` needs the network once)")
    said += [f"note: {sentence}" for sentence in few_groups(workflow.config)] if workflow.scale.meaningless else []
    said += _few_seeds(workflow.config, claims)
    lacking = workflow.scale.not_installed(workflow.config.texts(claims))
    said += [f"jobs on this machine will be refused: {sentence}" for sentence in lacking]
    for card in workflow.scale.compute.cards:
        try:
            decided(card)
        except ConfigError as error:
            said.append(f"jobs on this machine will be refused: {error}")
    return said


def _few_seeds(config: Config, claims: Sequence[str]) -> list[str]:
    """Return which claims have fewer seeds than a verdict needs; a law has points instead.

    Args: claims: that are asked about; all, if none.
    """
    needed = config.protocol.criteria.min_seeds
    own = {name: claim for name, claim in {**config.claims, **config.studies}.items() if not claims or name in claims}
    seeds_of = {name: config.seeds(name) for name, claim in own.items() if not isinstance(claim, LawClaim)}
    few = {getattr(own[name], "of", None) or name: seeds for name, seeds in seeds_of.items() if seeds < needed}
    words = f"a verdict needs {needed} seeds, and it has"
    return [f"note: claims.{name}: {words} {seeds}: no interval, hence no verdict" for name, seeds in few.items()]


def pin(
    scale: Scale = DEFAULT, endpoint: Annotated[str | None, Option(help="another hub than the public one")] = None
) -> int:
    """Write config/scales/<scale>.lock.yaml: revision and files of everything of a scale that is still unpinned.

    What the hub refuses stays unpinned and is told in a sentence each; the rest is written, and the exit code is 2.
    """
    folder = checkout() / "config" / "scales"
    found = read_scale(scale, folder)
    wanted = found.unpinned()
    if not wanted:
        print(f"scale {scale}: nothing to pin")
        return 0
    path = folder / f"{scale}.lock.yaml"
    lock = read_lock(path)
    backbones, sources = dict(lock.backbones), dict(lock.sources)
    pinned, refused = list[str](), list[str]()
    for name, look in _lookups(found, wanted, endpoint):
        try:
            snapshot = look()
        except DataError as error:
            refused.append(str(error))
            if isinstance(error, NoAnswer):  # nor will it answer for the others
                break
            continue
        (backbones if name in found.backbones else sources)[name] = snapshot
        pinned.append(name)
    if pinned:
        head = "# Written by `abi pin`: the revisions this scale runs with, and every file with its size and hash.\n"
        write_text(path, head + yaml.safe_dump(Lock(backbones=backbones, sources=sources).plain(), sort_keys=True))
        print(f"wrote {path}: {', '.join(pinned)}")
    for sentence in refused:
        print(f"abi: {sentence}", file=sys.stderr)
    return 2 if refused else 0


def _lookups(
    scale: PlannedScale, wanted: Sequence[str], endpoint: str | None
) -> Iterator[tuple[str, Callable[[], Snapshot]]]:
    """Yield what of a scale is to be pinned: its name, and what asks the hub for it."""
    for name, backbone in scale.backbones.items():
        if backbone.hub is not None and name in wanted:
            repository = Repository(backbone.hub.id, "model", endpoint)
            yield name, partial(_found, backbone.hub, repository, files_beside_weights)
    for data in {data.id: data for data in scale.hub_data()}.values():
        if data.id in wanted:
            patterns = [place.pattern for place in scale.hub_data() if place.id == data.id]
            yield data.id, partial(_found, data, Repository(data.id, "dataset", endpoint), data_files(patterns))


def _found(pinned: Pinned, repository: Repository, wanted: Wanted) -> Snapshot:
    """Return what the hub has at the revision that a scale names, or at its newest."""
    from abi.models.classes import require_class  # transformers, which no other command here needs

    revision = None if pinned.revision == UNPINNED else pinned.revision
    return look_up(repository, revision, wanted, require_class)


def docs(
    check: Annotated[bool, Option("--check", help="write nothing; exit code 1 if a document is out of date")] = False,
    adopted: Annotated[
        str | None,
        Option(
            "--adopt",
            metavar="WHAT",
            help=f"first take over a run: result files of this scale, `{BENCHMARKS}` or `{INSTRUMENT}`",
        ),
    ] = None,
    keep: Annotated[
        bool, Option("--keep", help="with --adopt: committed results that the run does not have stay")
    ] = False,
    carried: Annotated[
        tuple[str, Path, Path] | None,
        Option(
            "--carry",
            metavar="SCALE BEFORE AFTER",
            help="first let the code of AFTER stand for that of BEFORE behind a scale: two runs of equal figures",
            show_default="none",
        ),
    ] = None,
    but: Annotated[
        list[Path] | None,
        Option(
            metavar="FILE",
            help="with --carry: a committed result whose figures are other ones by the code of AFTER, adopted before",
            show_default="none",
        ),
    ] = None,
) -> int:
    """Write what documents quote (reference results, picture, record, keys, the DAG) and the JSON Schemas of `config/`.

    Raises: DataError: a document lacks a marker of a part that is written into it.
    """
    if adopted:
        adopt(adopted, keep=keep)
    if carried:
        n_rules = carry(*carried, [path.name for path in but or ()])
        print(f"{n_rules} rules: their code now stands for the one that made the committed run")
    with chdir(ROOT):  # documents are of the checkout of this code, and so is the configuration that they quote
        parts, written = generated_parts(), {}
        for name in dict.fromkeys(part.document for part in parts):
            own = [part for part in parts if part.document == name]
            written[name] = refreshed(Path(name).read_text(encoding="utf-8"), own)
        written |= generated_files() | schema_files()
    stale = []
    for name, after in written.items():
        path = ROOT / name
        if not path.exists() or path.read_text(encoding="utf-8") != after:
            stale.append(name)
            if not check:
                write_text(path, after)
                if REFERENCE in path.parents:
                    write_manifest(path.parent)
    if stale and check:
        print(f"{', '.join(stale)}: out of date; run `make docs`", file=sys.stderr)
        return 1
    print(f"written: {', '.join(stale)}" if stale else "documents are up to date")
    return 0
