"""What a command writes: a whole folder or nothing, never over something else; while it runs, parts beside it."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from abi.base.errors import DataError
from abi.base.files import require_folder, temporary_beside, unwritable


class OutFolder:
    """A folder that a command writes at its end.

    Args: own: the names of the files that may be replaced.
    Raises: DataError: it is there and may not be replaced.
    """

    def __init__(self, path: Path, own: Collection[str], *, force: bool) -> None:
        self.path, self.force = path, force
        self.parts = path.parent / f".{path.name}.parts"
        """Where finished parts lie while the command runs."""
        require_folder(path.parent)
        if not os.path.lexists(path):
            return
        if not force:
            raise DataError(f"{path}: is there already; give another folder, or --force to replace it")
        if not path.is_dir() or path.is_symlink():
            raise DataError(f"{path}: is a file or a link, which abi does not replace; give another folder")
        others = sorted(entry.name for entry in path.iterdir() if entry.name not in own)
        if others:
            raise DataError(f"{path}: holds {others[0]}, which abi did not write there; give another folder")

    @contextmanager
    def written(self) -> Iterator[Path]:
        """Yield an empty folder that takes the place of this one once the block succeeds."""
        parent, name = self.path.parent, self.path.name
        try:
            parent.mkdir(parents=True, exist_ok=True)
            made = temporary_beside(parent / name)
            made.mkdir()
        except OSError as error:
            raise unwritable(self.path, error) from None
        before = made.with_suffix(".old")
        try:
            yield made
            if self.force and self.path.is_dir():
                os.rename(self.path, before)
            os.rename(made, self.path)
        except OSError as error:
            raise unwritable(self.path, error) from None
        finally:
            if before.exists() and not self.path.exists():
                os.rename(before, self.path)
            shutil.rmtree(before, ignore_errors=True)
            shutil.rmtree(made, ignore_errors=True)
