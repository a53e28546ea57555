"""What a running job knows of itself: log, threads, digest check, provenance, one-sentence errors."""

import functools
import logging
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from abi.base import compute, heap, planned
from abi.base.digest import code_digest
from abi.base.errors import AbiError, ConfigError
from abi.base.files import ROOT, sha256_json, sha256_once
from abi.base.names import LORA
from abi.base.regimes import REGIMES
from abi.base.typed import Hardware, Provenance, Typed, fault

VERSIONED = (
    *("torch", "transformers", "peft", "tokenizers", "sentencepiece", "safetensors"),
    *("numpy", "scipy", "pandas", "numba", "llvmlite", "gguf", "pyarrow"),
)
ENGINE = ("torch", "transformers", "tokenizers", "sentencepiece", "safetensors", "numpy", "scipy")
JUDGING = ("numpy", "scipy", "pandas")
COMPILED = ("numba", "llvmlite")
SOFTWARE = {
    **dict.fromkeys(("judge_claim", "judge_study", "judge_ladder", "simulate_studies"), JUDGING),
    **dict.fromkeys(("summarise", "tabulate_transfers", "tabulate_experiments", "write_report", "write_cards"), ()),
    **dict.fromkeys(("calibrate_arms", "train_modules", "train_updated_modules"), (*ENGINE, *COMPILED)),
    **dict.fromkeys(("evaluate_arms", "evaluate_studies"), (*ENGINE, *COMPILED)),
    **dict.fromkeys(("choose_rates", "train_lora"), (*ENGINE, *COMPILED, "peft")),
    "build_text": ("python",),  # its grammar says what is code and what a docstring, its tables what is a letter
    "measure_overlap": (*ENGINE, "python"),
    "evaluate_experiment": (*ENGINE, *COMPILED, "python"),  # and whether generated code parses
}
"""Rule -> packages that can change its figures, where they are not those of `ENGINE`."""

TAUGHT, TRIALS = ("calibrate_arms", "choose_rates"), "choose_rates"
"""The rules whose steps load a lesson by name, and the one that loads the training of adapters by name."""

log = logging.getLogger("abi")
NO_MEMORY = re.compile("allocate memory|not enough memory")
"""What torch says on a CPU, as a plain RuntimeError, where there is too little memory."""
S = TypeVar("S")


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of every package that can change a figure."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name) or "unknown"  # of half a package there is a folder, and no version
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def release(name: str, version: str) -> str:
    """Return a version as far as figures depend on it: not on the build of a package, or the patch of Python."""
    return version.rpartition(".")[0] if name == "python" else version.partition("+")[0]  # 2.13.0 of 2.13.0+cpu


def software_of(rule: str) -> dict[str, str]:
    """Return the releases of the packages that can change what a rule writes."""
    return {name: release(name, versions()[name]) for name in SOFTWARE.get(rule, ENGINE)}


def hardware() -> Hardware:
    """Return processor, core count and operating system of this machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or "unknown"
    return Hardware(machine=platform.machine(), cpus=os.cpu_count(), system=platform.system(), cpu=cpu)


class InputFiles(Protocol):
    """The input files of a job by name, a path or a list each: Snakemake's list, which knows no `in` and no `get`."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a path, or a list of them."""

    def keys(self) -> Collection[str]:
        """Return the names."""


OutputFiles = Mapping[str, str]
"""The output files of a job by name."""


class Job(Generic[S]):
    """What a running job knows of itself. `spec` is its rule's model; `provenance()` goes into every file it writes."""

    def __init__(
        self, rule: str, spec: S, code: str, inputs: list[str], threads: int, *, computes: bool = True
    ) -> None:
        self.rule, self.spec, self.code, self.threads, self.computes = rule, spec, code, threads, computes
        self.inputs = [path for path in inputs if Path(path).is_file()]
        self.step: ModuleType | None = None
        self.started = time.perf_counter()

    @property
    def given(self) -> dict[str, Any]:
        """The spec as the rule gave it: JSON values, without what was left to its default."""
        return self.spec.plain() if isinstance(self.spec, Typed) else dict(self.spec)  # type: ignore[call-overload]

    @functools.cached_property
    def scratch(self) -> Path:
        """Where resumable state lies: outside the outputs, keyed by all the job depends on, so never stale.

        What a job computes on is a part of that, since the rest of an interrupted one may run elsewhere.
        """
        on = [self.threads, compute.current().device]
        key = sha256_json([self.rule, self.given, self.code, self.input_hashes, software_of(self.rule), on])[:20]
        return Path(".snakemake") / "abi" / f"{self.rule}-{key}"

    @functools.cached_property
    def input_hashes(self) -> dict[str, str]:
        """Hashes of the job's input files, computed once."""
        return {path: sha256_once(path) for path in self.inputs}

    def provenance(self, written: Mapping[str, str] | Iterable[str] = ()) -> Provenance:
        """Return what makes a file: rule, spec, code digest, inputs, versions, time, memory, hardware.

        Args: written: the outputs of the job, of which those that are there by now are hashed.
        """
        outputs = files_in(written.values() if isinstance(written, Mapping) else written)
        told: dict[str, Any] = {"outputs": {path: sha256_once(path) for path in outputs}} if outputs else {}
        told |= {"compute": compute.current()} if self.computes and "torch" in sys.modules else {}
        return Provenance(
            rule=self.rule,
            spec=self.given,
            code=self.code,
            inputs=self.input_hashes,
            **told,
            versions=versions(),
            threads=self.threads,
            elapsed_s=round(time.perf_counter() - self.started, 3),
            peak_memory_mb=used()[1],
            hardware=hardware(),
        )


def files_in(places: Iterable[str]) -> list[str]:
    """Return the paths of some files and of all files in some folders; Snakemake's own marks are none of them."""
    found: list[str] = []
    for place in map(Path, places):
        below = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else []
        found += [str(path) for path in below if path.name != ".snakemake_timestamp"]
        found += [str(place)] if place.is_file() else []
    return found


def step_of(rule: str) -> str:
    """Return the file that does a rule's work, from the repository root."""
    return f"abi/steps/{rule}.py"


def code_of(rule: str, spec: Mapping[str, Any], root: Path = ROOT) -> str:
    """Return the digest of the code that a job runs: of what its spec loads and of all that this imports."""
    return code_digest(*starts_of(rule, spec), root=root)


def noted_code(rule: str, spec: Mapping[str, object], root: Path) -> str:
    """Return the digest of the code of a job of a run that is planned now, and note it for the job."""
    code = code_of(rule, spec, root)
    planned.note(starts_of(rule, spec), code)
    return code


def starts_of(rule: str, spec: Mapping[str, Any]) -> list[str]:
    """Return the files at which a job's code starts: its rule's step, and what that loads by a name of the spec.

    Which lesson a calibration reads follows from its regime; that of another regime is none of its code. Nor
    are adapters of a choice of rates where the claim has none.
    """
    named = [f"abi/arms/{REGIMES[spec['regime']].lesson}.py"] if rule in TAUGHT else []
    named += [step_of("train_lora")] if rule == TRIALS and LORA in spec["arms"] else []
    return [step_of(rule), *named]


def spec_of(step: ModuleType | None, given: dict[str, Any], where: str) -> Any:
    """Return the spec of a job as the model that its step names `Spec`; as it is given without a step.

    Raises: ConfigError: it is not what the model says.
    """
    if step is None:
        return given
    try:
        return TypeAdapter(step.Spec).validate_python(given)
    except ValidationError as error:
        raise ConfigError(
            f"{where}: the spec is not what the step expects: {fault(error)}; plan the run again"
        ) from None


def computing(step: ModuleType) -> bool:
    """Return whether a step uses torch itself: in a warm process torch is there for every job."""
    places = (getattr(value, "__module__", None) or getattr(value, "__name__", "") for value in vars(step).values())
    return any(str(place).startswith(("torch", "abi.models", "abi.arms")) for place in places)


@contextmanager
def job(snakemake: Any, load: Callable[[], ModuleType | None] = lambda: None) -> Iterator[Job[Any]]:
    """Run a rule's step with log, thread limit, digest check, a typed spec and one-sentence errors.

    Args: snakemake: the object Snakemake gives to a script; load: imports the step, which the job then has.
    Raises: SystemExit: with code 2 and one sentence where the body raised an AbiError, or the system refused a file.
    """
    heap.keep_freed()
    try:
        _start_log(snakemake.log[0] if snakemake.log else None, str(snakemake.rule))
        rule, given = str(snakemake.rule), snakemake.params.spec
        code = code_of(rule, given)
        planned.check_code(starts_of(rule, given), snakemake.params.code, code)
        module = load()  # before threads are limited, so that torch is there
        spec = spec_of(module, dict(given), rule)
        inputs, computes = [str(path) for path in snakemake.input], module is None or computing(module)
        running = Job(rule, spec, code, inputs, snakemake.threads, computes=computes)
        running.step = module
        resources = snakemake.resources
        with _placed(getattr(resources, "device", "cpu"), snakemake.threads, getattr(resources, "gpu", 0)):
            yield running
        shutil.rmtree(running.scratch, ignore_errors=True)
        took = time.perf_counter() - running.started, *used()
        log.info("%s finished in %.1f s, %.1f s of CPU, %.0f MB at most", snakemake.rule, *took)
    except (AbiError, OSError) as error:
        log.error("%s: %s", snakemake.rule, error)
        raise SystemExit(2) from None
    except ValidationError as error:  # a figure that is none, where a document is made of figures
        log.error("%s: %s; nothing was written, look at the figures above", snakemake.rule, fault(error))
        raise SystemExit(2) from None
    except ImportError as error:
        log.exception("%s: a package is missing or damaged (%s); run `make setup`", snakemake.rule, error)
        raise SystemExit(2) from None
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which only a job on a card can have loaded
            told = "use a card with more, or `precision: bf16` for this rule (docs/devices.md)"
            log.error("%s: the card has too little memory (%s); %s", snakemake.rule, str(error).split(". ")[0], told)
            raise SystemExit(2) from None
        if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
            said = str(error)[:160] or "none is left"
            told = "run fewer jobs side by side (`--cores`), close other programs, or use a larger machine"
            log.error("%s: there is too little memory (%s); %s", snakemake.rule, said, told)
            raise SystemExit(2) from None
        log.exception("%s failed; this is a fault of abi, please report it", snakemake.rule)
        raise SystemExit(1) from None


def used() -> tuple[float, float]:
    """Return the CPU seconds and the largest memory in MB of this process so far."""
    import resource  # which Windows has not, where the library needs no jobs

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


def share_paths(root: Path) -> None:
    """Let jobs import the `abi` of this working copy, and find the `python` that plans them.

    Else `.venv/bin/snakemake` in a shell that has not activated the environment would run shell rules elsewhere.
    """
    for name, first in (("PYTHONPATH", str(root)), ("PATH", str(Path(sys.executable).absolute().parent))):
        kept = [part for part in os.environ.get(name, "").split(os.pathsep) if part and part != first]
        os.environ[name] = os.pathsep.join([first, *kept])


@contextmanager
def _placed(device: str, threads: int, cards: int = 0) -> Iterator[None]:
    """Pin torch to the rule's device and threads: one thread and two give different bits.

    Args: cards: that the job was given. Raises: ConfigError: a card that is not there.
    """
    if "torch" not in sys.modules:
        yield
        return
    torch = sys.modules["torch"]
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    with compute.using(compute.decided(device)) as chosen:
        if chosen.device != "cpu":
            log.info("on %s, %s", chosen.device, chosen.name)
        elif device == "auto" and cards:
            log.warning("asks for a card and torch %s sees none: it computes on the CPU", torch.__version__)
        yield


def progress(total: int, every_s: float = 5.0) -> Callable[[int, str], None]:
    """Return a reporter that logs `step/total` with a message at most every few seconds."""
    last = [time.perf_counter()]

    def report(step: int, message: str) -> None:
        now = time.perf_counter()
        if now - last[0] >= every_s or step == total:
            last[0] = now
            log.info("step %d/%d %s", step, total, message)

    return report
