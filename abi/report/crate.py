"""A run as a Provenance Run Crate (RO-Crate 1.1): every job with what it read and wrote, code, software and hashes.

`abi crate` writes it. The hashes are those that the records of the run promise, and it is only written of a chain in
which every promise holds (`abi/audit/results/chain.py`). Times are those of the files: what a copy of them does not
keep, it does not tell.
"""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from abi.audit.results.chain import Chain, hash_of
from abi.audit.results.places import CRATE
from abi.audit.results.records import Record, job_of
from abi.base.errors import TamperError
from abi.base.files import ROOT, sha256_json, write_text
from abi.base.job import step_of
from abi.base.typed import Provenance
from abi.judge.results import KINDS
from abi.plan import DEFAULT
from abi.plan.faults import RULE
from abi.report.citation import Citation

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

PROFILES = {
    "Process Run Crate": "https://w3id.org/ro/wfrun/process/0.5",
    "Workflow Run Crate": "https://w3id.org/ro/wfrun/workflow/0.5",
    "Provenance Run Crate": "https://w3id.org/ro/wfrun/provenance/0.5",
    "Workflow RO-Crate": "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
}
WORKFLOW = "workflow"
"""Folder of the rules, in this checkout and in a crate."""
LICENSES = "https://spdx.org/licenses/"
TERMS = {"sha256": "http://schema.org/sha256"}
"""Terms that the context of RO-Crate 1.1 lacks."""
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
SOURCE = {"encodingFormat": "text/plain"}
DONE = "http://schema.org/CompletedActionStatus"
TYPES = {".md": "text/markdown", ".gz": "application/gzip", ".safetensors": "application/octet-stream"}
"""Media types that the standard library does not tell, or tells by the system it runs on."""
TOLD = re.compile(RULE + r'\n    """(.+?)"""', re.MULTILINE | re.DOTALL)


@dataclass
class Ran:
    """One job: its records (three for states, else one), what made them, and path -> hash of all that it wrote."""

    made: Provenance
    records: list[str] = field(default_factory=list)
    wrote: dict[str, str] = field(default_factory=dict)

    @property
    def times(self) -> tuple[str, str]:
        """Start and end in ISO 8601: the record is written last, and says how long the job took."""
        end = max(Path(path).stat().st_mtime for path in self.records)
        return iso(end - self.made.elapsed_s), iso(end)


def iso(seconds: float) -> str:
    """Return seconds since 1970 as a time of UTC in ISO 8601."""
    return datetime.fromtimestamp(round(seconds, 3), UTC).isoformat(timespec="milliseconds")


def write_crate(folder: Path, agent: str | None = None) -> int:
    """Write the crate of a run into its folder, with the rules beside it; return how many jobs it tells of.

    Args: folder: `results/<scale>`, from the working directory; agent: who ran it.
    Raises: DataError: no result file; TamperError: a promise of a record does not hold.
    """
    chain = Chain.of(folder)
    if chain.broken:
        mend = "abi status --mend" + (f" --scale {folder.name}" if folder.name != DEFAULT else "")
        raise TamperError(f"{chain.broken[0].words()}; `{mend}` and a run put it right, then write the crate")
    jobs = jobs_of(chain)
    crate = crate_of(folder, chain, jobs, agent)
    for path in sources():
        write_text(folder / path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    write_text(folder / CRATE, json.dumps(compact(crate.metadata.generate()), indent=1, sort_keys=True) + "\n")
    return len(jobs)


def sources() -> list[Path]:
    """Return the files of the workflow, the main one first."""
    main = ROOT / WORKFLOW / "Snakefile"
    return [main, *sorted((ROOT / WORKFLOW / "rules").glob("*.smk"))]


def jobs_of(chain: Chain) -> dict[str, Ran]:
    """Return the jobs of a chain by record, from the texts to the pages."""
    found: dict[str, Ran] = {}
    for path, record in chain.records.items():
        job = found.setdefault(job_of(path), Ran(record.made))
        job.records.append(path)
        job.wrote |= {**record.others(path), path: hash_of(path) or ""}
    return found


def crate_of(folder: Path, chain: Chain, jobs: Mapping[str, Ran], agent: str | None) -> ROCrate:
    """Return the crate of a chain and its jobs. Args: folder: its root."""
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    crate.metadata.extra_terms.update(TERMS)
    return Builder(crate, folder, jobs, chain.records).built(agent)


class Builder:
    """Fills a crate with the jobs of a run. Ids of files are their paths from the crate's root."""

    def __init__(self, crate: ROCrate, folder: Path, jobs: Mapping[str, Ran], records: Mapping[str, Record]) -> None:
        self.crate, self.folder, self.jobs, self.records = crate, folder, jobs, records
        self.cited = Citation.of(ROOT)
        self.known: dict[str, Entity] = {}  # `ROCrate.get` looks at every entity for one that is not there
        self.controls: list[Entity] = []

    def built(self, agent: str | None) -> ROCrate:
        """Return the crate, filled."""
        who = {} if agent is None else {"agent": self.person(agent)}
        self.about()
        main = self.workflow()
        actions = {name: self.action(name, job, who) for name, job in self.jobs.items()}
        self.steps(main, actions)
        self.run(main, actions, who)
        return self.crate

    def add(self, identifier: str, kind: str | list[str], **properties: Any) -> Entity:
        """Return a contextual entity, added once."""
        from rocrate.model.contextentity import ContextEntity

        if identifier not in self.known:
            entity = ContextEntity(self.crate, identifier, {"@type": kind, **properties})
            self.known[identifier] = self.crate.add(entity)
        return self.known[identifier]

    def about(self) -> None:
        """Describe the crate itself, by what the project says of itself."""
        cited, root = self.cited, self.crate.root_dataset
        said = {
            "name": f"{cited.title}: a run of scale {self.folder.name}",
            "description": "From the documents of every text to the verdict of every claim: what each job did.",
            "license": self.add(f"{LICENSES}{cited.license}", "CreativeWork", name=cited.license),
            "author": self.add("#authors", "Organization", name=", ".join(cited.authors)),
            "datePublished": max(job.times[1] for job in self.jobs.values()),
            "conformsTo": [
                self.add(uri, "CreativeWork", name=name, version=uri.rpartition("/")[2])
                for name, uri in PROFILES.items()
            ],
        }
        for key, value in said.items():
            root[key] = value

    def person(self, agent: str) -> Entity:
        """Return who ran it; the id is an address (an ORCID) where the name is one."""
        return self.add(agent if agent.startswith("https://") else "#agent", "Person", name=agent)

    def workflow(self) -> Entity:
        """Return the main workflow; the files that it includes are parts of it."""
        main, *rules = sources()
        about = {
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
            "name": "abi",
            "version": self.cited.version,
            "conformsTo": self.add(BIOSCHEMAS, "CreativeWork", name="ComputationalWorkflow", version="1.0-RELEASE"),
            **SOURCE,
        }
        place, engine = f"{WORKFLOW}/{main.name}", metadata.version("snakemake")
        found = self.crate.add_workflow(
            str(main), place, main=True, lang="snakemake", lang_version=engine, properties=about
        )
        for path in rules:
            self.crate.add_file(str(path), path.relative_to(ROOT).as_posix(), properties=SOURCE)
        return found

    def file(self, path: str, sha256: str) -> Entity:
        """Return a file of a job: one of the crate, or, outside its root, something that is only named."""
        if not path.startswith(f"{self.folder}/"):
            return self.add(f"#{quote(path)}", "CreativeWork", name=path, sha256=sha256)
        name = Path(path).relative_to(self.folder).as_posix()
        if path not in self.known:
            size = str(Path(path).stat().st_size)
            about = {"sha256": sha256, "contentSize": size, "encodingFormat": media_type(name)}
            self.known[path] = self.crate.add_file(path, name, properties=about)
        return self.known[path]

    def tool(self, made: Provenance) -> Entity:
        """Return what a job ran: the step of its rule as the digest of its code names it, with its software."""
        software = [self.package(*pair) for pair in made.versions.items() if pair[1] != "absent"]
        about = {"name": step_of(made.rule), "version": made.code, "softwareRequirements": software}
        return self.add(f"#{made.rule}-{made.code}", "SoftwareSourceCode", **about)

    def package(self, name: str, version: str) -> Entity:
        """Return a package of Python, or Python itself, in a version."""
        url = f"https://pypi.org/project/{name}/{quote(version)}/"
        if name == "python":
            url = f"https://www.python.org/downloads/release/python-{version.replace('.', '')}/"
        return self.add(url, "SoftwareApplication", name=name, softwareVersion=version, url=url)

    def action(self, name: str, job: Ran, who: Mapping[str, Entity]) -> Entity:
        """Return the execution of a job."""
        made, (start, end) = job.made, job.times
        machine, short = made.hardware, Path(name).relative_to(self.folder).as_posix()
        read = [self.file(path, sha256) for path, sha256 in made.inputs.items()]
        return self.add(
            f"#job/{quote(short)}",
            "CreateAction",
            name=f"{made.rule} of {short}",
            description=(
                f"{made.elapsed_s:.3f} s, {made.threads} threads, {made.peak_memory_mb:.0f} MB on {machine.cpu} "
                f"({machine.machine}, {machine.system}); `provenance.spec` of {short} holds all its settings"
            ),
            instrument=self.tool(made),
            startTime=start,
            endTime=end,
            actionStatus=DONE,
            object=[*read, *self.texts(made)],
            result=[self.file(path, sha256) for path, sha256 in job.wrote.items()],
            **who,
        )

    def texts(self, made: Provenance) -> list[Entity]:
        """Return the sources of a text, as its record pins them: packages, folders, data sets, a grammar."""
        return [
            self.add(
                f"#source/{sha256_json(source)[:12]}",
                "CreativeWork",
                name=f"text: {source['kind']}",
                description=json.dumps(source),
            )
            for source in made.spec.get("sources", [])
        ]

    def steps(self, main: Entity, actions: Mapping[str, Entity]) -> None:
        """Describe the rules as steps of the workflow, and which job was the execution of which step."""
        told = dict(TOLD.findall("\n".join(path.read_text(encoding="utf-8") for path in sources())))
        for position, rule in enumerate(dict.fromkeys(job.made.rule for job in self.jobs.values()), 1):
            own = [actions[name] for name, job in self.jobs.items() if job.made.rule == rule]
            tools = list({tool.id: tool for tool in (action["instrument"] for action in own)}.values())
            step = self.add(
                f"{main.id}#{rule}",
                "HowToStep",
                name=rule,
                position=str(position),
                workExample=tools,
                description=" ".join(told.get(rule, "A rule that this checkout does not have.").split()),
            )
            main.append_to("step", step)
            main.append_to("hasPart", tools)
            self.controls += [
                self.add(
                    f"#control/{action.id.removeprefix('#job/')}",
                    "ControlAction",
                    name=f"{rule} as a step",
                    instrument=step,
                    object=action,
                )
                for action in own
            ]

    def run(self, main: Entity, actions: Mapping[str, Entity], who: Mapping[str, Entity]) -> None:
        """Describe the execution of the workflow: from the sources of its texts to its verdicts."""
        verdicts = [self.known[path] for path, record in self.records.items() if record.document.format in KINDS]
        output = self.add(
            "#verdict",
            "FormalParameter",
            name="verdict",
            additionalType="File",
            workExample=verdicts,
            description="A result file: the verdict of a claim with all its figures.",
        )
        main["output"] = [output]
        for verdict in verdicts:
            verdict["exampleOfWork"] = output
        times = [job.times for job in self.jobs.values()]
        texts = [source for job in self.jobs.values() for source in self.texts(job.made)]
        whole = self.add(
            "#run",
            "CreateAction",
            name=f"run of scale {self.folder.name}",
            instrument=main,
            description=f"{len(self.jobs)} jobs, {len(verdicts)} verdicts; they need not be of one call of Snakemake",
            startTime=min(start for start, _ in times),
            endTime=max(end for _, end in times),
            actionStatus=DONE,
            object=list(dict.fromkeys(texts)),
            result=verdicts,
            **who,
        )
        engine = self.package("snakemake", metadata.version("snakemake"))
        self.add(
            "#engine",
            "OrganizeAction",
            name=f"Snakemake {metadata.version('snakemake')}",
            instrument=engine,
            object=self.controls,
            result=whole,
            **who,
        )
        self.crate.root_dataset["mentions"] = [whole, *actions.values()]


def compact(content: dict[str, Any]) -> dict[str, Any]:
    """Return a crate in which a list of one value is that value, as RO-Crate recommends."""
    graph = [
        {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in entity.items()}
        for entity in content["@graph"]
    ]
    return content | {"@graph": graph}


def media_type(name: str) -> str:
    """Return the media type of a file by its name."""
    return TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
