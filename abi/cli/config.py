"""Commands on the configuration and the checkout: `check`, `pin`, `docs`. None of them imports torch."""

import argparse
import sys
from typing import TYPE_CHECKING

import yaml

from abi.base.errors import DataError
from abi.base.files import ROOT, write_text
from abi.plan.config import load
from abi.plan.transfers import Study
from abi.plan.yaml_files import UNPINNED, read_scale, scales, unpinned
from abi.report.documents import INSTRUMENT, adopt, between, generated_parts

if TYPE_CHECKING:
    pass


def scale_options(parser: argparse.ArgumentParser) -> None:
    """Add `--scale`."""
    parser.add_argument("--scale", default="tiny", help=f"one of {', '.join(scales())} (default: tiny)")


def check_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `abi check`."""
    scale_options(parser)
    parser.add_argument("--claim", action="append", default=[], help="also check that this claim exists")


def check(options: argparse.Namespace) -> int:
    """Validate the configuration of a scale and say what it holds."""
    study = Study(load(options.scale))
    for claim in options.claim:
        study.claim(claim)
    missing = unpinned(study.scale)
    listed = study.listed("summary")
    print(f"scale {options.scale}: {len(listed)} claims ({', '.join(listed)}), configuration valid")
    if study.config.pending:
        print(f"pending, for other scales: {', '.join(study.config.pending)}")
    if missing:
        print(f"not pinned yet: {', '.join(missing)} (`abi pin --scale {options.scale}` needs the network once)")
    return 0


def pin(options: argparse.Namespace) -> int:
    """Write config/scales/<scale>.lock.yaml: today's revision of everything of a scale that is still unpinned.

    Raises: DataError: the hub cannot be reached, with what would be pinned; nothing is written then.
    """
    scale = read_scale(options.scale, ROOT / "config" / "scales")
    wanted = unpinned(scale)
    if not wanted:
        print(f"scale {options.scale}: nothing to pin")
        return 0
    lock = ROOT / "config" / "scales" / f"{options.scale}.lock.yaml"
    pins: dict[str, dict[str, str]] = yaml.safe_load(lock.read_text(encoding="utf-8")) if lock.exists() else {}
    for name, backbone in scale["backbones"].items():
        if backbone.get("hub", {}).get("revision") == UNPINNED:
            pins.setdefault("backbones", {})[name] = _revision(backbone["hub"]["id"], "model", wanted, options.endpoint)
    for place in (place for places in scale["sources"].values() for place in places):
        if place.get("revision") == UNPINNED:
            pins.setdefault("sources", {})[place["id"]] = _revision(place["id"], "dataset", wanted, options.endpoint)
    write_text(
        lock, "# Written by `abi pin`: the revisions this scale runs with.\n" + yaml.safe_dump(pins, sort_keys=True)
    )
    print(f"wrote {lock.relative_to(ROOT)}: {', '.join(wanted)}")
    return 0


def pin_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `abi pin`."""
    scale_options(parser)
    parser.add_argument("--endpoint", help="another hub than the public one")


def _revision(hub_id: str, kind: str, wanted: list[str], endpoint: str | None) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi(endpoint=endpoint).repo_info(hub_id, repo_type=kind, timeout=20).sha)
    except Exception as error:
        raise DataError(
            f"pin: the hub does not answer for {hub_id} ({type(error).__name__}); go online and try again; still to pin: {', '.join(wanted)}"
        ) from None


def docs_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `abi docs`."""
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a document is out of date")
    parser.add_argument(
        "--adopt",
        metavar="WHAT",
        help=f"first take over a run: result files of this scale to results/reference, or `{INSTRUMENT}` to docs",
    )


def docs(options: argparse.Namespace) -> int:
    """Write what documents quote: tables from the committed reference results, the record, the schemas and the DAG."""
    if options.adopt:
        adopt(options.adopt)
    stale: list[str] = []
    for name, key, content in generated_parts():
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        after = between(before, key, content)
        if after != before:
            stale += [name] if name not in stale else []
            if not options.check:
                write_text(path, after)
    if stale and options.check:
        print(f"{', '.join(stale)}: out of date; run `make docs`", file=sys.stderr)
        return 1
    print(f"written: {', '.join(stale)}" if stale else "documents are up to date")
    return 0
