"""What made a file: code digest, hashes, versions, atomic writes and the context a job runs in."""

import ast
import functools
import hashlib
import json
import logging
import os
import platform
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from abi import strict
from abi.errors import AbiError, DataError, TamperError

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = ROOT / "workflow" / "schemas"
OUTSIDE_DIGEST = frozenset({"abi", "abi.errors", "abi.provenance", "abi.cli"})
"""Modules whose edits change messages, not results: they stay out of every digest."""

VERSIONED = ("torch", "transformers", "peft", "tokenizers", "sentencepiece", "safetensors", "numpy", "scipy", "pandas")
log = logging.getLogger("abi")


def sha256_file(path: str | Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(value: object) -> str:
    """Return the hex SHA-256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256_tensors(tensors: Mapping[str, Any]) -> str:
    """Return the hex SHA-256 over names, dtypes, shapes and bytes of torch tensors, sorted by name."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it only if the block succeeds.

    Raises: DataError: it cannot be written; what goes wrong with another file inside the block stays what it is.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise unwritable(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None or str(error.filename or temporary) != str(temporary):
            raise
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def require_folder(path: str | Path) -> None:
    """Raise DataError where a folder is due and a file or a broken link stands, at `path` or above it."""
    for place in (*reversed(Path(path).parents), Path(path)):
        if os.path.lexists(place) and not place.is_dir():
            raise DataError(f"{place}: is not a folder (a file or a broken link); move it away and run again")


def unwritable(path: str | Path, error: Exception) -> DataError:
    """Return the error of a file or folder that cannot be written."""
    reason = str(getattr(error, "strerror", None) or error).splitlines()[0][:160]
    return DataError(f"{path}: cannot be written ({reason}); free space or make the folder writable")


def write_tensors(path: str | Path, tensors: Mapping[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write torch tensors as safetensors, atomically. Raises: DataError: the disk is full or the folder read-only."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=metadata)
        except SafetensorError as error:
            raise unwritable(path, error) from error


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, kind: str, payload: Mapping[str, Any]) -> None:
    """Write `payload` as JSON of a schema `kind`, atomically and only if it is valid."""
    document = {"format": f"abi/{kind}@1", **payload}
    check_schema(document, kind, str(path))
    try:
        text = json.dumps(document, indent=1, allow_nan=False)
    except ValueError:
        raise DataError(f"{path}: a figure is NaN or infinite; nothing was written, look at the job's log") from None
    write_text(path, text + "\n")


def read_json(path: str | Path, kind: str) -> dict[str, Any]:
    """Return a JSON document of a schema `kind`, validated.

    Raises: DataError: missing, not JSON, a key twice, NaN or infinity, or not valid for the schema.
    """
    document = _parsed(path)
    check_schema(document, kind, str(path))
    return dict(document)


def _parsed(path: str | Path) -> Any:
    try:
        return strict.parse(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: does not exist; ask Snakemake for it, or check the path") from None
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path}: is not readable JSON ({error}); delete it and rebuild it") from None


def result_kind(document: object) -> str:
    """Return the schema of a result file by its `format`: `ladder`, `study`, or `result` for everything else."""
    found = document.get("format") if isinstance(document, Mapping) else None
    named = re.match(r"abi/(ladder|study)@", found) if isinstance(found, str) else None
    return named[1] if named else "result"


def read_result(path: str | Path) -> dict[str, Any]:
    """Return the result file of a claim or of a ladder, validated. Raises: DataError: as `read_json`."""
    document = _parsed(path)
    check_schema(document, result_kind(document), str(path))
    return dict(document)


def check_schema(document: object, kind: str, where: str) -> None:
    """Raise DataError with one sentence if `document` breaks the schema `kind` of a result file."""
    error = schema_error(document, kind)
    if error is not None:
        raise DataError(f"{where}: {error}; delete the file and rebuild it")


def schema_error(document: object, kind: str) -> str | None:
    """Return the first fault of `document` against a schema, as words, or None."""
    from jsonschema.exceptions import best_match

    error = best_match(validator(kind).iter_errors(document))
    if error is None:
        return None
    place = ".".join(str(part) for part in error.absolute_path) or "the file"
    return f"{place}: {error.message[:200]}"


@functools.cache
def validator(kind: str) -> Any:
    """Return the JSON Schema validator of a kind of file (`workflow/schemas/<kind>.schema.yaml` and the common definitions)."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    schema = yaml.safe_load((SCHEMAS / f"{kind}.schema.yaml").read_text(encoding="utf-8"))
    shared = [yaml.safe_load((SCHEMAS / name).read_text(encoding="utf-8")) for name in ("common.yaml", "judged.yaml")]
    schema["$defs"] = {**shared[0], **shared[1], **schema.get("$defs", {})}
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return extend(Draft202012Validator, type_checker=types)(schema)


def code_digest(script: str, root: Path = ROOT) -> str:
    """Return a digest of a script and of every `abi` module it reaches, blind to comments and docstrings.

    The walk is over type names and non-empty fields, so that Python 3.11, 3.12 and 3.13 agree.
    Args: script: path relative to the repository root.
    """
    return _digest_closure(script, str(root))


@functools.cache
def _digest_closure(script: str, root: str) -> str:
    todo, seen, digest = [Path(root) / script], set(), hashlib.sha256()
    trees: dict[str, str] = {}
    while todo:
        path = todo.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        trees[str(path.relative_to(root))] = _tree_digest(tree)
        package = path.relative_to(root).with_suffix("").parts[:-1]
        names = {name for node in ast.walk(tree) for name in _imported(node, package)}
        for name in sorted(names - OUTSIDE_DIGEST):
            place = Path(root, *name.split("."))
            todo += [place.with_suffix(".py"), place / "__init__.py"]
    for name in sorted(trees):
        digest.update(f"{name}={trees[name]};".encode())
    return digest.hexdigest()[:20]


def _imported(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    """Return the dotted `abi` modules that one import node of a file in `package` may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name.startswith("abi.")]
    if isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else ()
        module = ".".join([*base, *filter(None, [node.module])])
        if module.split(".")[0] == "abi":
            return [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return []


def _tree_digest(tree: ast.AST) -> str:
    parts: list[str] = []
    _walk(tree, parts)
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _walk(node: object, parts: list[str]) -> None:
    if isinstance(node, ast.AST):
        parts.append(f"({type(node).__name__}")
        for field, value in ast.iter_fields(node):
            if field in {"ctx", "kind", "type_ignores", "type_comment"} or value is None or value == []:
                continue
            if field == "body" and isinstance(value, list):
                value = [item for item in value if not _is_docstring(item)]
            parts.append(f" {field}=")
            _walk(value, parts)
        parts.append(")")
    elif isinstance(node, list):
        for item in node:
            _walk(item, parts)
    else:
        parts.append(repr(node))


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def versions() -> dict[str, str]:
    """Return the versions of Python and of every package that can change a figure."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def hardware() -> dict[str, Any]:
    """Return processor, core count and operating system of this machine."""
    return {"machine": platform.machine(), "cpus": os.cpu_count(), "system": platform.system(), "cpu": _cpu_name()}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


class Job:
    """What a running job knows of itself; `provenance()` goes into every file it writes."""

    def __init__(self, rule: str, spec: Mapping[str, Any], code: str, inputs: list[str], threads: int) -> None:
        self.rule, self.spec, self.code, self.threads = rule, spec, code, threads
        self.inputs = [path for path in inputs if Path(path).is_file()]
        self.started = time.perf_counter()

    @property
    def scratch(self) -> Path:
        """Where resumable state lies: outside the outputs, keyed by all the job depends on, so that none is ever stale."""
        key = sha256_json([self.rule, self.spec, self.code, self.input_hashes, versions()])[:20]
        return Path(".snakemake") / "abi" / f"{self.rule}-{key}"

    @functools.cached_property
    def input_hashes(self) -> dict[str, str]:
        """Hashes of the job's input files, computed once."""
        return {path: sha256_file(path) for path in self.inputs}

    def provenance(self) -> dict[str, Any]:
        """Return the provenance block: rule, spec, code digest, inputs, versions, time, memory, hardware."""
        return {
            "rule": self.rule,
            "spec": self.spec,
            "code": self.code,
            "inputs": self.input_hashes,
            "versions": versions(),
            "threads": self.threads,
            "elapsed_s": round(time.perf_counter() - self.started, 3),
            "peak_memory_mb": used()[1],
            "hardware": hardware(),
        }


@contextmanager
def job(snakemake: Any, script: str) -> Iterator[Job]:
    """Run a script's body with log, thread limit, digest check and one-sentence errors.

    Args: snakemake: the object Snakemake gives to a script; script: its path from the repository root.
    Raises: SystemExit: with code 2 and one sentence where the body raised an AbiError, or the system refused a file.
    """
    try:
        _start_log(snakemake.log[0] if snakemake.log else None, str(snakemake.rule))
        code = code_digest(script)
        if code != snakemake.params.code:
            raise TamperError(f"{script}: the code changed after the workflow was planned; run the same command again")
        spec = snakemake.params.spec
        running = Job(str(snakemake.rule), spec, code, [str(p) for p in snakemake.input], snakemake.threads)
        _limit_threads(snakemake.threads)
        yield running
        shutil.rmtree(running.scratch, ignore_errors=True)
        took = time.perf_counter() - running.started, *used()
        log.info("%s finished in %.1f s, %.1f s of CPU, %.0f MB at most", snakemake.rule, *took)
    except (AbiError, OSError) as error:
        log.error("%s: %s", snakemake.rule, error)
        raise SystemExit(2) from None
    except Exception:
        log.exception("%s failed; this is a fault of abi, please report it", snakemake.rule)
        raise SystemExit(1) from None


def used() -> tuple[float, float]:
    """Return the CPU seconds and the largest memory in MB of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, round(usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2), 1)


def _start_log(path: str | None, rule: str) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w", encoding="utf-8"))
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s {rule}: %(message)s", datefmt="%H:%M:%S", handlers=handlers
    )


def share_import_path(root: Path) -> None:
    """Let jobs import the `abi` of this working copy, not one that is installed elsewhere."""
    kept = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != str(root)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *kept])


def _limit_threads(threads: int) -> None:
    """Pin torch to the rule's threads: one thread and two give different bits."""
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)


def progress(total: int, every_s: float = 5.0) -> Callable[[int, str], None]:
    """Return a reporter that logs `step/total` with a message at most every few seconds."""
    last = [time.perf_counter()]

    def report(step: int, message: str) -> None:
        now = time.perf_counter()
        if now - last[0] >= every_s or step == total:
            last[0] = now
            log.info("step %d/%d %s", step, total, message)

    return report
