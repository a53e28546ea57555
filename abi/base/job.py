"""What a running job knows of itself: log, threads, digest check, provenance, one-sentence errors."""

import functools
import logging
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from abi.base.digest import code_digest
from abi.base.errors import AbiError, TamperError
from abi.base.files import sha256_file, sha256_json

VERSIONED = ("torch", "transformers", "peft", "tokenizers", "sentencepiece", "safetensors", "numpy", "scipy", "pandas")


log = logging.getLogger("abi")


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


def step_of(rule: str) -> str:
    """Return the file that does a rule's work, from the repository root."""
    return f"abi/steps/{rule}.py"


@contextmanager
def job(snakemake: Any) -> Iterator[Job]:
    """Run a rule's step with log, thread limit, digest check and one-sentence errors.

    Args: snakemake: the object Snakemake gives to a script.
    Raises: SystemExit: with code 2 and one sentence where the body raised an AbiError, or the system refused a file.
    """
    try:
        _start_log(snakemake.log[0] if snakemake.log else None, str(snakemake.rule))
        step = step_of(str(snakemake.rule))
        code = code_digest(step)
        if code != snakemake.params.code:
            raise TamperError(f"{step}: the code changed after the workflow was planned; run the same command again")
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
