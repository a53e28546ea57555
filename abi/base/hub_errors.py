"""Why the hub gave nothing, in one sentence that says how to mend it."""

import errno
from pathlib import Path

from abi.base.errors import first_line
from abi.base.files import OF_DISKS
from abi.base.machine import GB

REFUSED = {
    401: "its login is not valid; log in again (`hf auth login`), or correct HF_TOKEN",
    403: "see whether your token may read {page}, and whether a proxy of your network forbids it",
    407: "a proxy of your network asks for a login; give it in HTTPS_PROXY",
    429: "it was asked too often; try again in some minutes, or log in (`hf auth login`)",
}
"""HTTP status -> how to mend a refusal that no error of the client names."""


def _cause(error: BaseException) -> BaseException:
    """Return the error that the client met when it then found nothing in its cache either."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that a server answered with, None where none did."""
    return getattr(getattr(_cause(error), "response", None), "status_code", None)


def reason(error: BaseException, page: str, name: str = "") -> str:
    """Return in words why the hub gave nothing, and how to mend it. Args: page: of the repository; name: of a file."""
    from huggingface_hub import constants, errors

    told, status = _cause(error), status_of(error)
    if isinstance(told, errors.GatedRepoError):
        return f"is gated; accept its terms at {page} and log in (`hf auth login`)"
    if isinstance(told, errors.RevisionNotFoundError):
        return (
            "the hub does not have this revision (any more), nor has the local cache; point HF_HOME at a cache that "
            "holds it, or take it out of <scale>.lock.yaml beside the scale and run `abi pin`, which pins the newest"
        )
    if isinstance(told, errors.RepositoryNotFoundError):
        return "the hub has no such repository, or hides it; correct its id, or log in (`hf auth login`)"
    if isinstance(told, errors.EntryNotFoundError) and not isinstance(told, errors.LocalEntryNotFoundError):
        return f"the hub does not have {name or 'one of its files'} at this revision; choose another revision"
    if status is not None and status < 500:
        remedy = REFUSED.get(status, "correct its id, or log in (`hf auth login`)")
        return f"the hub refuses (HTTP {status}); {remedy.format(page=page)}"
    line = first_line(told)
    full = "No space left on device"
    disk = told.strerror if isinstance(told, OSError) and told.errno in {*OF_DISKS, errno.EACCES} else None
    if disk or full in line:  # Xet raises no OSError
        return (
            f"the cache {constants.HF_HUB_CACHE} cannot be written ({disk or full}); mend that{broken_downloads()}, or "
            "point HF_HOME at another disk"
        )
    if "CERTIFICATE_VERIFY_FAILED" in line:
        return "the certificate of the hub is not trusted here; name that of your network's proxy in SSL_CERT_FILE"
    if isinstance(told, errors.OfflineModeIsEnabled):
        why = "HF_HUB_OFFLINE is set"
    elif line.startswith("Consistency check failed") or "peer closed" in line:
        return f"the connection broke off while {name} was read; run again, what is complete is kept"
    else:
        why = f"{type(told).__name__}: {line}" if status is None else f"HTTP {status}"
    if not name:
        return f"cannot be looked up ({why}); go online and try again"
    return (
        f"cannot be downloaded ({why}) and is not in the local cache; go online once, or point HF_HOME at a cache "
        "that holds it"
    )


def broken_downloads() -> str:
    """Return in words what killed downloads left in the cache, which nothing uses again; or ""."""
    from huggingface_hub import constants

    pattern = "*/blobs/*.incomplete"
    size = sum(path.stat().st_size for path in Path(constants.HF_HUB_CACHE).glob(pattern) if path.is_file())
    told = f", delete what killed downloads left ({size / GB:.2f} GB: {constants.HF_HUB_CACHE}/{pattern})"
    return told if size else ""
