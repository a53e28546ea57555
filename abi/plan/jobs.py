"""What every job of the DAG may ask: what there is, batches of seeds, paths, and what texts, backbones and states depend on.

`studies.SeveralJobs` and `specs.Study` are built on this. A spec holds everything an output depends on and nothing else, so that one
edit in `config/` reruns its own jobs only (FINDINGS part 2: one dict param per rule).
"""

from collections.abc import Iterable
from typing import Any

from abi.base.errors import ConfigError
from abi.base.files import sha256_file
from abi.plan.config import Config
from abi.plan.yaml_files import closest

Needed = tuple[str, str, str, str]
"""A trained module: backbone, text, shape, role."""


class Jobs:
    """The jobs of one configuration. Paths are relative to the working directory."""

    def __init__(self, config: Config) -> None:
        self.config, self.scale = config, config.scale
        self.results = f"results/{config.name}"

    def claim(self, claim_id: str) -> dict[str, Any]:
        """Return a claim, one of several studies, or one about other claims.

        Raises: ConfigError: unknown, with the list of claims; or one that this scale cannot run.
        """
        claims = self.config.every()
        if claim_id in self.config.pending:
            scales = ", ".join(self.config.pending[claim_id]["scales"])
            raise ConfigError(f"claim {claim_id!r} is pending: it runs at scale {scales} only; choose that scale")
        if claim_id not in claims:
            raise ConfigError(f"no claim {claim_id!r}{closest(claim_id, claims)}; claims: {', '.join(claims)}")
        return claims[claim_id]

    def claim_of_file(self, result: str) -> str:
        """Return the claim id of a result file's stem."""
        every = self.config.every()
        return next(c for c, claim in every.items() if claim["record"]["result_file"] == f"{result}.json")

    def result_file(self, claim_id: str) -> str:
        """Return the path of a claim's result file."""
        return f"{self.results}/{self.claim(claim_id)['record']['result_file']}"

    def result_files(self, claims: Iterable[str] | None = None) -> list[str]:
        """Return the result files of some claims, by default of all (ladders are `ladder_files`)."""
        return [self.result_file(claim_id) for claim_id in (self.config.claims if claims is None else claims)]

    def study_files(self) -> list[str]:
        """Return the result files of the claims made of several studies."""
        return [self.result_file(claim_id) for claim_id in self.config.studies]

    def ladder_files(self) -> list[str]:
        """Return the result files of all ladders."""
        return [self.result_file(claim_id) for claim_id in self.config.ladders]

    def transfers(self) -> list[str]:
        """Return the transfer claims in all their regimes."""
        return [claim_id for claim_id, claim in self.config.claims.items() if claim["kind"] == "transfer"]

    def published(self) -> list[str]:
        """Return the claims a headline counts: those the record holds, each once, ladders among them."""
        return self.config.published()

    def listed(self, page: str) -> list[str]:
        """Return the claims a page of `vocabulary.PAGES` lists: all of this scale with the ladders last, or the headline's."""
        return list(self.config.headline) if page == "headline" else list(self.config.every())

    def page_files(self, page: str) -> list[str]:
        """Return the result files of the claims a page lists."""
        return self.result_files(self.listed(page))

    def regimes_of(self, claim_id: str) -> list[str]:
        """Return the claims that are one claim in its several regimes, itself first."""
        return [claim for claim, entry in self.config.claims.items() if claim_id in (claim, entry.get("of"))]

    def resources(self, rule: str) -> dict[str, int]:
        """Return memory, minutes, threads and GPUs of a rule at this scale."""
        table = self.scale["jobs"]["resources"]
        return table.get(rule, table["default"])

    def batches(self, stage: str, n_seeds: int) -> list[str]:
        """Return batch names `first-last` that cover seeds 1 to n."""
        size = self.scale["jobs"]["seeds_per_job"][stage]
        return [f"{first}-{min(first + size - 1, n_seeds)}" for first in range(1, n_seeds + 1, size)]

    def batches_for(self, stage: str, n_seeds: int, batch: str) -> list[str]:
        """Return the batches of a stage (that has n seeds in all) which hold the seeds of another batch."""
        wanted = set(seeds_of(batch))
        return [name for name in self.batches(stage, n_seeds) if wanted & set(seeds_of(name))]

    def text_spec(self, text: str) -> dict[str, Any]:
        """What a text depends on."""
        made = dict(self.scale["texts"][text])
        made = {key: value for key, value in made.items() if key not in {"max_windows", "max_windows_per_document"}}
        return made | {
            "sources": self.scale["sources"][made["sources"]],
            "split": self.split_of(text),
            "salt": self.scale["salt"],
        }

    def split_of(self, text: str) -> dict[str, float]:
        """Return the share of a text's groups per split: its own, or the scale's."""
        return dict(self.scale["texts"][text].get("split", self.scale["split"]))

    def backbone_spec(self, backbone: str) -> dict[str, Any]:
        """What a backbone depends on: its definition, without what only states need."""
        definition = self.scale["backbones"][backbone]
        made = {key: definition[key] for key in ("build", "hub") if key in definition}
        window = definition["window"]
        return made | ({"window": window} if "build" in definition else {})

    def states_spec(self, backbone: str, text: str) -> dict[str, Any]:
        """What the states of a backbone on a text depend on."""
        definition, made = self.scale["backbones"][backbone], self.scale["texts"][text]
        return {
            "window": definition["window"], "taps": definition["taps"], "max_windows": made["max_windows"],
            "max_windows_per_document": made["max_windows_per_document"],
            "min_scored": self.config.protocol["criteria"]["min_positions"], "split": self.split_of(text), "salt": self.scale["salt"],
        }  # fmt: skip

    def module_spec(self, text: str, shape: str, role: str, batch: str) -> dict[str, Any]:
        """What the native modules of a batch of seeds depend on."""
        definition = dict(self.scale["modules"][shape])
        return {"module": definition, "role": role, "seeds": seeds_of(batch), "text": text, "name": shape}

    def verdict_facts(self) -> dict[str, Any]:
        """Return what every verdict that rests on evidence depends on."""
        return {
            "scale": self.config.name, "meaningless": self.scale["meaningless"], "protocol": self.config.protocol,
            "n_claims": len(self.published()),
            "published_sha256": sha256_file(self.config.root / "config" / "record" / "published.json"),
        }  # fmt: skip

    def page_spec(self, page: str) -> dict[str, Any]:
        """What a page that counts claims depends on besides their result files."""
        published = self.published()
        counted = [claim_id for claim_id in self.listed(page) if claim_id in published]
        return {"protocol": self.config.protocol, "counted": counted, "n_claims": len(published)}

    def _shape(self, name: str) -> dict[str, Any]:
        return {key: value for key, value in self.scale["modules"][name].items() if key != "training"}

    def backbone_input(self, backbone: str) -> dict[str, str]:
        """Return the inputs of a backbone: general text where it is built, nothing where it is downloaded."""
        build = self.scale["backbones"][backbone].get("build")
        return self.text_files(build["text"]) if build else {}

    def text_files(self, text: str) -> dict[str, str]:
        """Return the documents of a text and the record that says which belong to which split."""
        place = f"{self.results}/corpus/{text}"
        return {"documents": f"{place}.jsonl.gz", "record": f"{place}.json"}

    @property
    def general(self) -> str:
        """The general text: what backbones are aligned on, and what harm is measured on."""
        return str(self.scale["alignment"]["text"])

    def backbone_folder(self, backbone: str) -> str:
        """Return the folder of a backbone in the Hugging Face layout; its manifest lies beside it."""
        return f"{self.results}/backbones/{backbone}"

    def head(self, backbone: str) -> str:
        """Return the file of a backbone's head."""
        return f"{self.results}/heads/{backbone}.safetensors"

    def tokens(self, backbone: str) -> str:
        """Return the file of a backbone's vocabulary as spellings."""
        return f"{self.results}/heads/{backbone}.tokens.json"

    def states(self, backbone: str, text: str, split: str) -> str:
        """Return the manifest of the states of a backbone on one split of a text."""
        return f"{self.results}/states/{backbone}/{text}.{split}.json"

    def module_manifests(self, of: tuple[str, str, str, str], batch: str) -> list[str]:
        """Return the manifests of trained modules that hold a batch's seeds."""
        n_seeds = self.module_seeds(*of)  # type: ignore[attr-defined]
        names: list[str] = self.batches_for("modules", n_seeds, batch)  # type: ignore[attr-defined]
        return [f"{self.results}/modules/{'/'.join(of)}/{name}.json" for name in names]

    def module_seeds(self, backbone: str, text: str, shape: str, role: str) -> int:
        """Return how many seeds of a module the claims need."""
        needed = [
            n
            for claim_id in self.config.every()
            for of, n in self.needs(claim_id)
            if of == (backbone, text, shape, role)
        ]
        return max(needed, default=1)

    def needs(self, claim_id: str) -> list[tuple[Needed, int]]:
        """Return the trained modules a claim needs and their seeds; a claim about others needs none of its own."""
        return []


def seeds_of(batch: str) -> list[int]:
    """Return the seeds of a batch name `first-last`."""
    first, last = batch.split("-")
    return list(range(int(first), int(last) + 1))
