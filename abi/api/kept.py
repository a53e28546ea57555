"""Finished parts of a long call, kept in a folder so that the same call goes on after it was killed.

What is kept is whole: every file is written atomically, and states, modules and checkpoints are checked by their hashes
when they are read again. A folder belongs to one call: the same function, arguments, models, texts and code.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, TypeVar

from pydantic import ValidationError

from abi.api.progress import say
from abi.base.digest import code_digest
from abi.base.errors import DataError
from abi.base.files import lock, sha256_json, unwritable, write_text
from abi.base.job import versions
from abi.base.typed import Document, Sha256, Typed, fault
from abi.text.documents import Document as Text

CALL = "call.json"
CODE = ("abi/api/comparing.py", "abi/api/distilling.py", "abi/api/transferring.py")
"""The files whose code, with all that they import, makes every part."""
Made = TypeVar("Made", bound=Typed)


class Call(Document):
    """`call.json`: the call that a folder of parts belongs to."""

    kind: ClassVar[str] = "call"
    function: str
    arguments: Sha256
    """Hash of everything it was given, and of the code and libraries that make its parts."""


@dataclass(frozen=True)
class Keep:
    """Where the parts of a call are kept, and what the call depends on beside its models.

    Args: place: None: nowhere; texts: that it reads; given: anything else, as JSON values.
    """

    place: str | Path | None
    function: str
    texts: Sequence[Sequence[Text]]
    given: Mapping[str, object]

    def call(self, models: object) -> Call:
        """Return the call with some models. Args: models: their hashes, as JSON values."""
        read = [[[one.sha256, one.document, one.split] for one in documents] for documents in self.texts]
        given = json.loads(json.dumps(dict(self.given), default=lambda number: number.item()))  # those of numpy, too
        depends = [read, given, models, code_digest(*CODE), versions()]
        return Call(function=self.function, arguments=sha256_json(depends))


@contextmanager
def room(keep: Keep | None, models: Callable[[], object]) -> Iterator[Path]:
    """Yield the folder that a call writes its parts to: a scratch one, or that of `keep`.

    The latter is deleted once the block succeeds. Parts of another call in it are deleted first.
    Raises: DataError: other files are in it, or another call works there.
    """
    if keep is None or keep.place is None:
        with TemporaryDirectory(prefix="abi-", ignore_cleanup_errors=True) as scratch:
            yield Path(scratch)
        return
    folder, own = Path(keep.place), keep.call(models())
    with _alone(folder):
        if (folder / CALL).is_file():
            if Call.read(folder / CALL).arguments == own.arguments:
                say(f"going on from {folder}: {_found(folder) or 'nothing was finished'}")
            else:
                _empty(folder)  # which itself is held
                say(f"{folder} holds parts of another call or of older code; they are rebuilt")
        elif any(folder.iterdir()):
            raise DataError(f"{folder}: holds something else than finished parts of a call; give a folder of its own")
        own.write(folder / CALL)
        try:
            yield folder
        except BaseException:
            with suppress(OSError):  # what went wrong is what the caller must see
                if not _found(folder):
                    _empty(folder)
                    folder.resolve().rmdir()
            raise
        with suppress(OSError):  # what was asked for is done, and must reach the caller
            _empty(folder)
            folder.resolve().rmdir()


def _empty(folder: Path) -> None:
    """Delete what a folder holds, the call last: without it the rest would be taken for somebody else's."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == CALL):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make a folder, and hold it until the end of the block or of the process.

    Two calls would delete each other's parts. Raises: DataError: another call holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        if not lock(handle, folder, "give a folder of another disk"):
            raise DataError(f"{folder}: another call keeps its parts there now; wait for it, or give another")
        yield
    finally:
        os.close(handle)


def _found(folder: Path) -> str:
    """Return what is finished of a call, in words."""
    counted = {
        "texts read": [*folder.glob("*.states.json")],
        "modules trained": [*folder.rglob("*.entry.json")],
        "rates chosen": [*folder.glob("rates-*.json")],
        "seeds done": [*folder.glob("seed-*.json")],
        "trainings begun": [path for path in folder.rglob("*.safetensors") if path.stem.rpartition("-")[2].isdigit()],
    }
    return ", ".join(f"{len(found)} {words}" for words, found in counted.items() if found)


def remembered(path: Path, kind: type[Made], make: Callable[[], Made]) -> Made:
    """Return what a file keeps; if there is none, make it and keep it."""
    if path.is_file():
        try:
            return kind.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise DataError(f"{path}: is no finished part ({fault(error)}); delete the folder it lies in") from None
    made = make()
    write_text(path, made.model_dump_json(indent=1) + "\n")
    return made
