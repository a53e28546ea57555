"""The command `abi new-claim`: a valid entry for models and text of one's own, from a few words, checked as a whole."""

import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import yaml
from typer import Argument, Option

from abi.base.errors import ConfigError, DataError
from abi.base.files import checkout, scales, write_texts
from abi.base.typed import Typed
from abi.base.wording import closest, number
from abi.cli.config import checked
from abi.cli.options import Scale, folder_name, home_path, labelled
from abi.cli.own_models import backbone_of
from abi.plan import DEFAULT
from abi.plan.config import load, targets_of_claim
from abi.plan.faults import Faults
from abi.plan.kinds import claims_model
from abi.plan.scale import Scale as ScaleFile
from abi.plan.specs.models import BackboneSection
from abi.plan.specs.shared import PerSplit, Shares
from abi.plan.specs.text import BuildText, Folder, Selection, TextSection
from abi.plan.yaml_files import read_scale, read_yaml
from abi.text.corpus import build_text
from abi.text.sources import find_files, folders_of

KINDS = ("transfer", "near_transfer")
"""The kinds whose entry follows from two backbones and a text."""
REGIME = "few-shot"
"""The regime of a transfer for which none is named."""
SUFFIXES = (".txt", ".md", ".py")
TEXT = TextSection(
    extract="plain",
    sources="",
    max_bytes=4000000,
    max_bytes_per_document=6000,
    min_bytes_per_document=500,
    max_documents_per_group=5,
    max_copied_share=0.5,
    min_test_groups=30,
    max_windows=PerSplit(train=1400, calibration=240, test=320),
    max_windows_per_document=PerSplit(train=8, calibration=4, test=4),
)
"""A text, as docs/extending.md has it."""
FEW_GROUPS = Shares(train=0.4, calibration=0.15, test=0.45)
"""The split of a text whose groups are too few for the scale's."""

Taken = Annotated[
    str | None,
    Option(metavar="NAME|PATH|ID", help="backbone of the scale, folder of a model, or hub id", show_default="asks"),
]


class Claim(Typed):
    """A claim as its entry has it; the whole configuration says whether it is valid."""

    title: str
    statement: str
    kind: str
    regimes: list[str] = []
    text: str
    source: str
    target: str
    module: str
    seeds: int
    scales: list[str] = []


def new_claim(
    name: Annotated[str | None, Argument(metavar="NAME", help="the claim's name", show_default="from models")] = None,
    source: Taken = None,
    target: Taken = None,
    text: Annotated[
        str | None, Option(metavar="NAME|PATH", help="text of the scale, or a folder", show_default="asks")
    ] = None,
    scale: Scale = DEFAULT,
    kind: Annotated[str, Option(help=" or ".join(KINDS))] = KINDS[0],
    regimes: Annotated[
        str | None, Option(metavar="A,B", help="the first gives the verdict", show_default=REGIME)
    ] = None,
    module: Annotated[str, Option(help="shape of the scale")] = "standard",
    seeds: Annotated[int, Option(metavar="N", help="3 at least for a verdict")] = 3,
    title: Annotated[str | None, Option(help="a few words", show_default="made of the others")] = None,
    statement: Annotated[str | None, Option(help="the claim in a sentence", show_default="made of the others")] = None,
) -> int:
    """Write the entries of a claim into config/, all or none, and say what to type next.

    Raises: ConfigError: a name that is taken or unknown, or an entry that does not fit; DataError: a folder without a
        model, or with too little text.
    """
    if kind not in KINDS:
        raise ConfigError(f"new-claim: it writes no {kind!r} (valid: {', '.join(KINDS)}); docs/extending.md shows how")
    if regimes is not None and kind != KINDS[0]:
        raise ConfigError(f"new-claim: a {kind} has no regimes; take out --regimes, or write a {KINDS[0]}")
    root = checkout()
    edit = Edit(root, scale, read_scale(scale, root / "config" / "scales"))
    from_ = edit.backbone(_asked(source, "Which model does the module come from"))
    to = edit.backbone(_asked(target, "Which model does it move to"))
    domain = edit.text(_asked(text, "Which text is the domain"))
    claim = name or f"{from_}_to_{to}"
    entry = Claim(
        title=title or f"{from_} to {to}, {domain}",
        statement=statement or f"A domain module trained beside a frozen {from_} can be moved to a frozen {to}.",
        kind=kind,
        **({"regimes": (regimes or REGIME).split(",")} if kind == KINDS[0] else {}),
        text=domain,
        source=from_,
        target=to,
        module=module,
        seeds=seeds,
    )
    edit.claim(claim, entry)
    told = [line for line in edit.apply(claim) if not line.startswith(("scale ", "pending"))]
    runs = ", ".join(edit.claims[claim].scales or ["every scale"])
    every = "every other scale" if edit.broken else "every scale"
    said = [f"checked: {every} is valid with it; it runs at {runs}", *told]
    broken = edit.broken.items()
    said += [f"note: scale {other} is not valid, with this claim or without: {why}" for other, why in broken]
    hub = any(backbone.hub for backbone in edit.backbones.values())
    following = [f"abi pin --scale {scale}"] if hub else []
    following += [f"abi {word} {claim} --scale {scale}" for word in ("plan", "run", "show")]
    if domain == edit.known.alignment.text:
        said.append(f"note: both models are aligned on {domain}, so a module trained on it brings nothing new")
    print("\n".join([*edit.written(), *said, *(f"next: {command}" for command in following)]))
    return 0


def _asked(given: str | None, question: str) -> str:
    """Return an option, or the answer to its question. Raises: ConfigError: there is nobody to ask."""
    if given is None:
        if not sys.stdin.isatty():
            raise ConfigError("new-claim: give --source, --target and --text; there is no terminal to ask on")
        print(f"{question}? ", end="", file=sys.stderr, flush=True)
        given = sys.stdin.readline().strip()
    if not given:
        raise ConfigError(f"new-claim: {question.lower()}? give a name or a path")
    return given


@dataclass
class Edit:
    """New entries of a scale and a claim, until they are checked and written."""

    root: Path
    scale: str
    known: ScaleFile
    sources: dict[str, Sequence[Folder]] = field(default_factory=dict)
    texts: dict[str, TextSection] = field(default_factory=dict)
    backbones: dict[str, BackboneSection] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    """other scale that is not valid, whatever the claim -> its first fault"""

    def backbone(self, given: str) -> str:
        """Return the name of a backbone: one of the scale, or a new entry for a folder or a hub id."""
        known = {**self.known.backbones, **self.backbones}
        label, place = labelled(given)
        folder = Path(place).expanduser()
        if not label and given in known:
            return given
        if not folder.is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", place):
            raise ConfigError(
                f"new-claim: {given!r} is no folder, no hub id like user/model and no backbone of scale {self.scale}"
                f"{closest(given, known)} (backbones: {', '.join(known)})"
            )
        for name, there in self.known.backbones.items():
            if there.folder is not None and Path(there.folder.path).expanduser().resolve() == folder.resolve():
                return name
        name = self._new("backbones", label or _word(folder_name(place)), known)
        self.backbones[name] = backbone_of(place, folder)
        return name

    def text(self, given: str) -> str:
        """Return the name of a text: one of the scale, or a new entry for a folder."""
        label, place = labelled(given)
        folder = Path(place).expanduser()
        if not label and given in self.known.texts:
            return given
        if not folder.is_dir():
            raise ConfigError(
                f"new-claim: {given!r} is no folder and no text of scale {self.scale}"
                f"{closest(given, self.known.texts)} (texts: {', '.join(self.known.texts)})"
            )
        known = {**self.known.texts, **self.known.sources}
        name = self._new("texts", label or _word(folder_name(place)).replace("_", ""), known)
        self.sources[name], self.texts[name] = _text(self.known, name, _places(folder, name), folder)
        return name

    def claim(self, name: str, entry: Claim) -> None:
        """Add the claim. Raises: ConfigError: the name is taken or no name."""
        given = read_yaml(self.root / "config" / "claims.yaml", claims_model())
        for claim in given.claims:
            if claim != name and name in targets_of_claim(given, claim):
                raise ConfigError(
                    f"new-claim: {name!r} is a target of {claim}, one of its regimes; give another name as the first "
                    "argument"
                )
        self._new("claims", name, given.claims)
        self.claims[name] = entry

    def _new(self, section: str, name: str, known: Collection[str]) -> str:
        """Return a name that a new entry may have. Raises: ConfigError: it is taken, or no name."""
        other = "as the first argument" if section == "claims" else "as NAME=PATH"
        if not re.fullmatch("[a-z][a-z0-9_]+", name):
            raise ConfigError(
                f"new-claim: {name!r} is no name; give two or more of a to z, 0 to 9 and _, a letter first, {other}"
            )
        if name in known:
            raise ConfigError(f"new-claim: {name!r} is taken under {section}; give another name {other}")
        return name

    @property
    def places(self) -> dict[str, tuple[str, ...]]:
        """File of configuration -> the sections of it that may get an entry."""
        scale = f"config/scales/{self.scale}.yaml"
        return {scale: ("sources", "texts", "backbones"), "config/claims.yaml": ("claims",)}

    def entries(self, section: str) -> dict[str, object]:
        """Return name -> new entry of a section, as YAML has it."""
        if section == "sources":
            return {name: [folder.plain() for folder in places] for name, places in self.sources.items()}
        typed: dict[str, Mapping[str, Typed]]
        typed = {"texts": self.texts, "backbones": self.backbones, "claims": self.claims}
        return {name: entry.plain() for name, entry in typed[section].items()}

    def files(self) -> dict[str, str]:
        """Return path from the root -> text of the files of configuration with the new entries."""
        found, scale = dict[str, str](), next(iter(self.places))
        for file, sections in self.places.items():
            text = (self.root / file).read_text(encoding="utf-8")
            for section in sections:
                for name, entry in self.entries(section).items():
                    text = inserted(text, section, name, entry, file)
            found[file] = text
        if self.known.claims is not None:
            [claim] = self.claims
            found[scale] = _listed(found[scale], claim, scale)
        return found

    def apply(self, claim: str) -> list[str]:
        """Write the entries once the whole configuration is valid with them; return what `abi check` says.

        Raises: ConfigError: it is not valid; nothing is written.
        """
        with TemporaryDirectory() as folder:
            copy = Path(folder)
            shutil.copytree(self.root / "config", copy / "config")
            self._name_scales(copy, claim)
            files = self.files()
            write_texts({copy / name: text for name, text in files.items()})
            valid = [other for other in scales(copy / "config" / "scales") if other != self.scale]
            said = checked(self.scale, [claim], copy)
            for other in (other for other in valid if other not in self.broken):
                try:
                    load(other, copy)
                except ConfigError as error:
                    self._note_broken(other, error)
        write_texts({self.root / name: text for name, text in files.items()})
        return said

    def _note_broken(self, other: str, told: ConfigError) -> None:
        """Note a scale that is not valid before the edit either. Raises: told, where the edit breaks it."""
        try:
            load(other, self.root)
        except ConfigError as error:
            self.broken[other] = str(error).partition("\n")[0]
        else:
            raise told

    def _read_scales(self, folder: Path) -> dict[str, ScaleFile]:
        """Return the scales of a folder; of those that cannot be read, their faults are noted."""
        found = {}
        for name in scales(folder):
            try:
                found[name] = read_scale(name, folder)
            except ConfigError as error:
                if name == self.scale:
                    raise
                self.broken[name] = str(error).partition("\n")[0]
        return found

    def _name_scales(self, copy: Path, claim: str) -> None:
        """Say in the claim which scales run it, where not all do: those that know its text and backbones."""
        write_texts({copy / name: text for name, text in self.files().items()})
        entry, own = self.claims[claim], self._read_scales(copy / "config" / "scales")
        names = {entry.source, entry.target}
        able = [
            scale
            for scale, found in own.items()
            if entry.text in found.texts
            and {*found.backbones} >= names
            and (scale == self.scale or not found.replicate or all(found.backbones[one].build for one in names))
            and (scale == self.scale or not _unfit(found, entry))
        ]
        for sentence in _unfit(own[self.scale], entry):
            raise ConfigError(f"new-claim: {sentence} and name it with --module")
        runs = [scale for scale in able if scale == self.scale or own[scale].claims is None]
        if self.broken or {*runs} != {scale for scale, found in own.items() if found.claims is None}:
            self.claims[claim] = entry.model_copy(update={"scales": runs})

    def written(self) -> list[str]:
        """Return a line per file: what was written."""
        lines = []
        for file, sections in self.places.items():
            entries = [f"{section}.{name}" for section in sections for name in self.entries(section)]
            if self.known.claims is not None and file.startswith("config/scales/"):
                entries += [f"claims: {', '.join(self.claims)}"]  # which its list has now
            lines += [f"wrote {file}: {', '.join(entries)}"] if entries else []
        alone = [name for name, places in self.sources.items() if places[0].group_by == "file"]
        return lines + [f"each file of {name} is a group, since its folders are too few" for name in alone]


def _unfit(scale: ScaleFile, entry: Claim) -> list[str]:
    """Return why a claim's module does not fit its backbones, nothing where it does."""
    faults = Faults(scale, {}, {}, ())
    for backbone in (entry.source, entry.target):
        faults.module(entry.module, backbone, "module")
    return faults.sentences


class _Dumper(yaml.SafeDumper):
    """Writes lists below their key, as the files of configuration have them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Go one level deeper."""
        super().increase_indent(flow, False)


def _word(name: str) -> str:
    """Return a name as entries have it."""
    found = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return found if found[:1].isalpha() else f"m_{found}"


def _places(folder: Path, name: str) -> list[Folder]:
    """Return the sources of a folder: one per kind of file in it."""
    places = folders_of(folder, SUFFIXES, name)
    if not places:
        raise DataError(f"{folder}: holds no file that ends with {', '.join(SUFFIXES)}; give each document a file")
    return [place.model_copy(update={"path": home_path(folder)}) for place in places]


def _text(scale: ScaleFile, name: str, places: Sequence[Folder], folder: Path) -> tuple[Sequence[Folder], TextSection]:
    """Return the sources and the entry of a text that give enough test groups, each file one where folders are few.

    Raises: DataError: there are too few files.
    """
    extract = "code" if all(place.pattern.endswith(".py") for place in places) else "plain"
    told: DataError | None = None
    by_file = [place.model_copy(update={"group_by": "file"}) for place in places]
    for grouped, split in product((places, by_file), (None, FEW_GROUPS)):
        entry = TEXT.model_copy(update={"extract": extract, "sources": name, **({"split": split} if split else {})})
        taken = entry.given(*Selection.model_fields)
        try:
            build_text(BuildText(**taken, sources=[*grouped], split=split or scale.split, salt=scale.salt))
        except DataError as error:
            told = told or error
        else:
            return grouped, entry
    files = number(sum(len(find_files(place)) for place in places), "file")
    raise DataError(f"{folder}: {told}; it has {files}, give more (docs/extending.md, A text)")


def inserted(text: str, section: str, name: str, entry: object, file: str) -> str:
    """Return YAML with an entry at the end of a section; every other line, comment and order stays.

    Raises: ConfigError: the section is written in one line.
    """
    form: Any = {"sort_keys": False, "default_flow_style": None, "width": 120, "allow_unicode": True}
    block = yaml.dump({name: entry}, Dumper=_Dumper, **form)
    lines, added = text.splitlines(), textwrap.indent(block, "  ").splitlines()
    heads = [i for i, line in enumerate(lines) if re.match(rf"{section}:", line)]
    if not heads:
        return "\n".join([*lines, "", f"{section}:", *added, ""])
    [head] = heads
    if not re.fullmatch(rf"{section}:\s*(#.*)?", lines[head]):
        raise ConfigError(f"{file}: {section} is written in one line; give each of its entries a line")
    after = next((i for i in range(head + 1, len(lines)) if re.match(r"[^\s#]", lines[i])), len(lines))
    while not lines[after - 1].strip() or lines[after - 1].lstrip().startswith("#"):
        after -= 1
    spaced = [""] if section == "claims" else []
    return "\n".join([*lines[:after], *spaced, *added, *lines[after:], ""])


def _listed(text: str, claim: str, file: str) -> str:
    """Return a scale whose list of claims has one more. Raises: ConfigError: the list is not in one line."""
    found, n = re.subn(r"(?m)^claims: \[(.+)\]", rf"claims: [\1, {claim}]", text)
    if n != 1:
        raise ConfigError(f"{file}: its `claims` are no list in one line; add {claim} there")
    return found
