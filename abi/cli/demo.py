"""The command `abi demo`: a page on this machine that shows what modules do to a model, token by token."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from abi.base.errors import AbiError, ConfigError, DataError
from abi.base.names import NO_DOMAIN, PERMUTED, RANDOM, TRANSFERRED
from abi.cli.options import Scale, folder_name, labelled
from abi.plan import DEFAULT

if TYPE_CHECKING:
    from abi.api.modules import Module
    from abi.api.several import Several
    from abi.models.backbone import Backbone

PORT = 8765
SEED = "seed1"
"""The seed whose modules of a run are shown."""
ARMS = (TRANSFERRED, RANDOM, PERMUTED, NO_DOMAIN)
"""Those of a run's calibrated modules that are shown: the moved one, its placebos, and its interface alone."""


def demo(
    model: Annotated[
        list[str] | None, Option(metavar="MODEL", help="folder of a model, or its id on the hub", show_default="none")
    ] = None,
    backbone: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="a backbone of the scale, with the modules of its run", show_default="none"),
    ] = None,
    module: Annotated[
        list[str] | None,
        Option(metavar="[NAME=]MODULE", help="folder of a saved module, or its id on the hub", show_default="none"),
    ] = None,
    revision: Annotated[
        list[str] | None,
        Option(metavar="[NAME=]REV", help="branch, tag or commit of a model of the hub", show_default="the newest"),
    ] = None,
    scale: Scale = DEFAULT,
    port: Annotated[int, Option(metavar="N", help="port of 127.0.0.1; 0 takes a free one")] = PORT,
) -> int:
    """Serve the page until Ctrl-C. All options but `--scale` and `--port` may be given several times.

    Raises: ConfigError: no model, two of one name, or a revision of none of them; DataError: a model or module is not
        there, a module belongs to none of the models, or the port is taken.
    """
    from abi.cli.demo_server import HOST, Demo, server

    if not model and not backbone:
        raise ConfigError("demo: give --model (a folder or hub id) or --backbone (of a scale)")
    names = [*(folder_name(place) for place in model or []), *(backbone or [])]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"demo: two models are called {twice!r}; rename the folder of one of them")
    given = _given(module or [])
    shown = dict(_models(_revised(model or [], revision or []), backbone or [], scale, given))
    used = {name for attached in shown.values() for name in attached.modules}
    for name in given:
        if name not in used:
            _refused(name, given[name], shown.values())
    listening = server(Demo(shown), port)
    print(f"abi demo: http://{HOST}:{listening.server_port}/ (Ctrl-C ends it)", file=sys.stderr, flush=True)
    try:
        listening.serve_forever()
    except KeyboardInterrupt:
        return 0
    finally:
        listening.server_close()
    return 0


def _given(modules: Sequence[str]) -> "dict[str, Module]":
    """Return the modules of the command line by name: what stands before `=`, or the name of the folder."""
    from abi.api.modules import Module

    found: dict[str, Module] = {}
    for one in modules:
        label, place = labelled(one)
        name = label or folder_name(place)
        if name in found:
            raise ConfigError(f"demo: two modules are called {name!r}; name one of them, `--module other={place}`")
        found[name] = Module.from_pretrained(place)
        if found[name].kind == "ngram":
            raise ConfigError(
                f"demo: --module {name}: it is an n-gram model, which is mixed with no other and so has no slider "
                "here; `abi generate --module` writes with it, `abi evaluate` measures it"
            )
    return found


def _revised(models: Sequence[str], revisions: Sequence[str]) -> dict[str, str | None]:
    """Return the place of every model with its revision; one without a name is the only model's.

    Raises: ConfigError: no `--model`; a name that no model has, or none where there are several; two of one model.
    """
    if revisions and not models:
        raise ConfigError("demo: a backbone of a scale has its own revision; leave out --revision")
    named = {folder_name(place): place for place in models}
    found: dict[str, str | None] = dict.fromkeys(models)
    for one in revisions:
        *name, asked = one.split("=", 1)
        place = named.get(name[0]) if name else models[0] if len(models) == 1 else None
        if place is None or not asked:
            raise ConfigError(f"demo: --revision {one}: name its model, one of {', '.join(named)}, as in `NAME=REV`")
        if found[place] is not None:
            raise ConfigError(f"demo: --revision {one}: {place} has one already, {found[place]}; give one of them")
        found[place] = asked
    return found


def _models(
    models: Mapping[str, str | None], backbones: Sequence[str], scale: str, given: "dict[str, Module]"
) -> "Iterator[tuple[str, Several]]":
    """Yield every model with the modules that belong to it attached, none in use. Args: models: place -> revision."""
    from abi.api.loading import load_backbone
    from abi.cli.generate import read_backbone

    for place, revision in models.items():
        name = folder_name(place)
        beside = [module for module in given.values() if not module.anywhere and module.place.model in (place, name)]
        own = {module.dtype for module in beside}
        yield name, _attached(load_backbone(place, revision, own.pop() if len(own) == 1 else "float32"), given)
    for name in backbones:
        live, base = read_backbone(scale, name)
        yield name, _attached(live, {**given, **modules_of_run(Path("results", scale), name, base.weights_sha256)})


def _attached(backbone: "Backbone", modules: "dict[str, Module]") -> "Several":
    """Return a model with those modules attached that belong to it."""
    from abi.api.attaching import attach

    attached = attach(backbone, {})
    for name, module in modules.items():
        try:
            attached.inject(name, module)
        except DataError:
            continue  # of another model; `demo` refuses what belongs to none
    return attached


def _refused(name: str, module: "Module", shown: "Iterable[Several]") -> None:
    """Raise DataError for a module that belongs to no model, or to none with others, in the words of the check."""
    for attached in shown:
        try:
            attached.inject(name, module)
        except DataError as error:
            raise DataError(f"demo: --module {name}: {error}") from None


def modules_of_run(results: Path, backbone: str, weights: str) -> "dict[str, Module]":
    """Return the modules that a run has for a backbone: trained there, moved there and their placebos, and portable.

    Those of the first seed, by their place in the results. Args: weights: hash of the backbone's. Files that are
    damaged are left out; `abi status` names them.
    """
    from abi.api.modules import Module
    from abi.models.module import CONFIG

    patterns = [f"modules/{backbone}/**/{SEED}/{CONFIG}", f"modules/*/*/portable/portable/*/{SEED}/*/{CONFIG}"]
    patterns += [f"calibration/*/*/{SEED}/*/{arm}-0/{CONFIG}" for arm in ARMS]
    found: dict[str, Module] = {}
    for folder in (file.parent for pattern in patterns for file in sorted(results.glob(pattern))):
        try:
            module = Module.from_pretrained(folder)
        except AbiError:
            continue
        if module.kind == "portable" or module.about.base_sha256 == weights:
            found.setdefault(name_of(folder.relative_to(results)), module)
    return found


def name_of(place: Path) -> str:
    """Return how a module of a run is called: its place, without what every name would say."""
    kind, *parts = place.parts
    words = [part for part in parts if part != SEED and not part.replace("-", "").isdigit()]
    if kind == "calibration":
        claim, fit, arm = words
        return f"{claim}: {arm.removesuffix('-0')}, {fit}"
    return f"{words[0]}: {', '.join(words[1:])}"
