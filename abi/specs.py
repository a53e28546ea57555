"""What each job of the DAG depends on: its spec (a plain dict), its input files, its batches of seeds.

Rules ask here and hold no logic themselves. A spec holds everything an output depends on and nothing else, so that one
edit in `config/` reruns its own jobs only (FINDINGS part 2: one dict param per rule).
"""

from collections.abc import Iterable
from typing import Any

from abi.config import Config, closest
from abi.errors import ConfigError
from abi.provenance import sha256_file

# The trained modules each regime's calibration reads. The reference of a transfer never teaches; general-only sees no oracle.
CALIBRATES_WITH = {
    "oracle-kd": ("source", "oracle", "wrong"),
    "few-shot": ("source", "oracle", "wrong"),
    "general-only": ("source",),
    "reconstruction": ("before", "reference"),
}


class Study:
    """The jobs of one configuration. Paths are relative to the working directory."""

    def __init__(self, config: Config) -> None:
        self.config, self.scale = config, config.scale
        self.results = f"results/{config.name}"

    # what there is

    def claim(self, claim_id: str) -> dict[str, Any]:
        """Return a claim or a ladder of claims.

        Raises: ConfigError: unknown, with the list of claims; or one that this scale cannot run.
        """
        claims = self.config.claims | self.config.ladders
        if claim_id in self.config.pending:
            scales = ", ".join(self.config.pending[claim_id]["scales"])
            raise ConfigError(f"claim {claim_id!r} is pending: it runs at scale {scales} only; choose that scale")
        if claim_id not in claims:
            raise ConfigError(f"no claim {claim_id!r}{closest(claim_id, claims)}; claims: {', '.join(claims)}")
        return claims[claim_id]

    def claim_of_file(self, result: str) -> str:
        """Return the claim id of a result file's stem."""
        every = self.config.claims | self.config.ladders
        return next(c for c, claim in every.items() if claim["record"]["result_file"] == f"{result}.json")

    def result_file(self, claim_id: str) -> str:
        """Return the path of a claim's result file."""
        return f"{self.results}/{self.claim(claim_id)['record']['result_file']}"

    def result_files(self, claims: Iterable[str] | None = None) -> list[str]:
        """Return the result files of some claims, by default of all (ladders are `ladder_files`)."""
        return [self.result_file(claim_id) for claim_id in (self.config.claims if claims is None else claims)]

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
        return list(self.config.headline) if page == "headline" else [*self.config.claims, *self.config.ladders]

    def page_files(self, page: str) -> list[str]:
        """Return the result files of the claims a page lists."""
        return self.result_files(self.listed(page))

    def resources(self, rule: str) -> dict[str, int]:
        """Return memory, minutes, threads and GPUs of a rule at this scale."""
        table = self.scale["jobs"]["resources"]
        return table.get(rule, table["default"])

    # seeds in batches

    def batches(self, stage: str, n_seeds: int) -> list[str]:
        """Return batch names `first-last` that cover seeds 1 to n."""
        size = self.scale["jobs"]["seeds_per_job"][stage]
        return [f"{first}-{min(first + size - 1, n_seeds)}" for first in range(1, n_seeds + 1, size)]

    def batches_for(self, stage: str, n_seeds: int, batch: str) -> list[str]:
        """Return the batches of a stage (that has n seeds in all) which hold the seeds of another batch."""
        wanted = set(seeds_of(batch))
        return [name for name in self.batches(stage, n_seeds) if wanted & set(seeds_of(name))]

    def module_seeds(self, backbone: str, text: str, shape: str, role: str) -> int:
        """Return how many seeds of a module the claims need."""
        wanted = (backbone, text, shape, role)
        return max(
            (self.config.seeds(c) for c in self.config.claims if wanted in self.modules_of(c).values()), default=1
        )

    def modules_of(self, claim_id: str) -> dict[str, tuple[str, str, str, str]]:
        """Return role in the claim -> (backbone, text, shape, role) of the trained modules a claim needs."""
        claim = self.claim(claim_id)
        text, target = claim["text"], claim["target"]
        if claim["kind"] == "reconstruction":
            return {
                "reference": (target, text, claim["reference_module"], "reference"),
                "before": (target, text, claim["module"], "source"),
                "oracle": (target, text, claim["module"], "oracle"),
            }
        modules = {
            "source": (claim["source"], text, claim["module"], "source"),
            "oracle": (target, text, claim["module"], "oracle"),
            "reference": (target, text, claim["module"], "reference"),
        }
        if "wrong-domain" in claim["arms"]:
            modules["wrong"] = (claim["source"], self.general, claim["module"], "source")
        return modules

    # specs

    def text_spec(self, text: str) -> dict[str, Any]:
        """What a text depends on."""
        made = dict(self.scale["texts"][text])
        made = {key: value for key, value in made.items() if key not in {"max_windows", "max_windows_per_document"}}
        return made | {
            "sources": self.scale["sources"][made["sources"]],
            "split": self.scale["split"],
            "salt": self.scale["salt"],
        }

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
            "min_scored": self.config.protocol["criteria"]["min_positions"], "split": self.scale["split"], "salt": self.scale["salt"],
        }  # fmt: skip

    def module_spec(self, text: str, shape: str, role: str, batch: str) -> dict[str, Any]:
        """What the native modules of a batch of seeds depend on."""
        definition = dict(self.scale["modules"][shape])
        return {"module": definition, "role": role, "seeds": seeds_of(batch), "text": text, "name": shape}

    def alignment_spec(self, claim_id: str, batch: str) -> dict[str, Any]:
        """What the rotations of a batch of seeds depend on."""
        claim, settings = self.claim(claim_id), self.scale["alignment"]
        return {
            "module": self._shape(claim["module"]),
            "max_rows": settings["max_rows"],
            "pool": settings["pool"],
            "split": settings["split"],
            "seeds": seeds_of(batch),
        }

    def calibration_spec(self, claim_id: str, batch: str) -> dict[str, Any]:
        """What the fitted arms of a batch of seeds depend on."""
        claim = self.claim(claim_id)
        return {
            "regime": claim["regime"], "arms": [arm for arm in claim["arms"] if arm != "lora"], "fit": claim["fit"],
            "budget": self._budget(claim),
            "module": self._shape(claim["module"]), "text": claim["text"], "seeds": seeds_of(batch),
            "variants": claim.get("variants", []),
            **({"max_rows": self.scale["alignment"]["max_rows"]} if claim["regime"] == "general-only" else {}),
        }  # fmt: skip

    def lora_spec(self, claim_id: str, batch: str) -> dict[str, Any]:
        """What the adapters of a batch of seeds depend on: the budget of the other arms, and the size of their interface."""
        claim = self.claim(claim_id)
        return {
            "regime": claim["regime"], "fit": claim["fit"], "budget": self._budget(claim, lora=True),
            "module": self._shape(claim["module"]), "seeds": seeds_of(batch), "variants": claim.get("variants", []),
            **({"training_windows": self.scale["evaluation"]["training_windows"]} if self._reports_training(claim) else {}),
        }  # fmt: skip

    def evaluation_spec(self, claim_id: str, batch: str) -> dict[str, Any]:
        """What the evidence of a batch of seeds depends on."""
        claim = self.claim(claim_id)
        return {"regime": claim["regime"], "seeds": seeds_of(batch), **self.scale["evaluation"]}

    def verdict_spec(self, claim_id: str) -> dict[str, Any]:
        """What a verdict depends on besides the evidence."""
        claim = self.claim(claim_id)
        keys = (
            "title",
            "statement",
            "kind",
            "regime",
            "of",
            "sees",
            "text",
            "source",
            "target",
            "module",
            "fit",
            "variants",
            "record",
        )
        return {
            "id": claim_id, "scale": self.config.name, "claim": {key: claim[key] for key in keys if key in claim}, "protocol": self.config.protocol,
            "n_claims": len(self.published()),
            "published_sha256": sha256_file(self.config.root / "config" / "record" / "published.json"),
            "seeds": self.config.seeds(claim_id), "meaningless": self.scale["meaningless"],
            "backbones": {role: self.backbone_spec(claim[role]) for role in ("source", "target")},
            "budget": self._budget(claim), "d_abi": self.scale["modules"][claim["module"]]["d_abi"],
            "training_steps": sum(p["steps"] for p in self.scale["modules"][claim["module"]]["training"]["phases"]),
        }  # fmt: skip

    def ladder_spec(self, claim_id: str) -> dict[str, Any]:
        """What the verdict of a ladder depends on besides its rungs."""
        claim = {key: value for key, value in self.claim(claim_id).items() if key != "scales"}
        about = {"scale": self.config.name, "meaningless": self.scale["meaningless"]}
        return {"id": claim_id, "claim": claim, "protocol": self.config.protocol["protocol"], **about}

    def page_spec(self, page: str) -> dict[str, Any]:
        """What a page that counts claims depends on besides their result files."""
        published = self.published()
        counted = [claim_id for claim_id in self.listed(page) if claim_id in published]
        return {"protocol": self.config.protocol, "counted": counted, "n_claims": len(published)}

    def _budget(self, claim: dict[str, Any], *, lora: bool = False) -> dict[str, Any]:
        """Return the budget of a claim's fit with the phases of `lora` alone or of every other form."""
        budget = self.scale["calibration"][claim["fit"]]
        return {**budget, "phases": {form: p for form, p in budget["phases"].items() if (form == "lora") == lora}}

    @staticmethod
    def _reports_training(claim: dict[str, Any]) -> bool:
        """Return whether the figures on training text are reported: where the fits saw all of it."""
        return claim["regime"] in {"oracle-kd", "reconstruction"}

    def _shape(self, name: str) -> dict[str, Any]:
        return {key: value for key, value in self.scale["modules"][name].items() if key != "training"}

    # inputs

    def backbone_input(self, backbone: str) -> dict[str, str]:
        """Return the inputs of a backbone: general text where it is built, nothing where it is downloaded."""
        build = self.scale["backbones"][backbone].get("build")
        return self.text_files(build["text"]) if build else {}

    def text_files(self, text: str) -> dict[str, str]:
        """Return the documents of a text and the record that says which belong to which split."""
        place = f"{self.results}/corpus/{text}"
        return {"documents": f"{place}.jsonl.gz", "record": f"{place}.json"}

    def modules_input(self, claim_id: str, batch: str) -> dict[str, list[str]]:
        """Return role -> manifests of the trained modules that hold a batch's seeds."""
        found = {}
        for name, (backbone, text, shape, role) in self.modules_of(claim_id).items():
            n_seeds = self.module_seeds(backbone, text, shape, role)
            found[name] = [
                f"{self.results}/modules/{backbone}/{text}/{shape}/{role}/{b}.json"
                for b in self.batches_for("modules", n_seeds, batch)
            ]
        return found

    def alignment_input(self, claim_id: str, batch: str) -> dict[str, Any]:
        """Return the inputs of an alignment: states of the alignment text, and every module whose space is aligned to.

        All regimes of a claim share its alignment; a module that one of them needs is aligned for all.
        """
        claim, settings = self.claim(claim_id), self.scale["alignment"]
        regimes = [c for c, entry in self.config.claims.items() if claim_id in (c, entry.get("of"))]
        modules = {role: paths for regime in regimes for role, paths in self.modules_input(regime, batch).items()}
        return {
            "source_states": self.states(claim["source"], settings["text"], settings["split"]),
            "target_states": self.states(claim["target"], settings["text"], settings["split"]),
            **{role: modules[role] for role in ("source", "oracle", "wrong") if role in modules},
        }  # fmt: skip

    def calibration_input(self, claim_id: str, batch: str) -> dict[str, Any]:
        """Return the inputs of a calibration: what the target side may see in the claim's regime, and nothing else."""
        claim = self.claim(claim_id)
        modules = self.modules_input(claim_id, batch)
        inputs: dict[str, Any] = {
            "head": self.head(claim["target"]),
            **{role: modules[role] for role in CALIBRATES_WITH[claim["regime"]] if role in modules},
        }
        if claim["regime"] == "general-only":
            return inputs | {
                "target_states": self.states(claim["target"], self.general, "train"),
                "source_states": self.states(claim["source"], self.general, "train"),
                "target_held_out": self.states(claim["target"], self.general, "calibration"),
                "source_held_out": self.states(claim["source"], self.general, "calibration"),
                "source_head": self.head(claim["source"]),
                "target_tokens": self.tokens(claim["target"]),
                "source_tokens": self.tokens(claim["source"]),
            }
        inputs["train"] = self.states(claim["target"], claim["text"], "train")
        if claim["kind"] == "transfer":
            wanted = self.batches_for("alignments", self.config.seeds(claim_id), batch)
            inputs["alignment"] = [f"{self.results}/alignments/{claim.get('of', claim_id)}/{b}.json" for b in wanted]
        return inputs

    def lora_input(self, claim_id: str, batch: str) -> dict[str, Any]:
        """Return the inputs of the arm `lora`: the target backbone, what the other arms are fitted on, and what is evaluated."""
        claim = self.claim(claim_id)
        teacher = {"oracle": self.modules_input(claim_id, batch)["oracle"]} if claim["regime"] == "oracle-kd" else {}
        return {
            "backbone": f"{self.backbone_folder(claim['target'])}.json",
            "head": self.head(claim["target"]),
            "train": self.states(claim["target"], claim["text"], "train"),
            "domain": self.states(claim["target"], claim["text"], "test"),
            "general": self.states(claim["target"], self.general, "test"),
            **teacher,
        }

    def lora_files(self, claim_id: str, batch: str) -> dict[str, list[str]]:
        """Return the manifests of the arm `lora` that hold a batch's seeds, or nothing where a claim has no such arm."""
        if "lora" not in self.claim(claim_id)["arms"]:
            return {}
        wanted = self.batches_for("calibration", self.config.seeds(claim_id), batch)
        return {"lora": [f"{self.results}/lora/{claim_id}/{b}.json" for b in wanted]}

    def evaluation_input(self, claim_id: str, batch: str) -> dict[str, Any]:
        """Return the inputs of an evaluation: states of all scopes, head, native modules, fitted arms."""
        claim = self.claim(claim_id)
        wanted = self.batches_for("calibration", self.config.seeds(claim_id), batch)
        trained_on = {"train": self.states(claim["target"], claim["text"], "train")}
        return {
            "domain": self.states(claim["target"], claim["text"], "test"),
            "general": self.states(claim["target"], self.general, "test"),
            **(trained_on if self._reports_training(claim) else {}),
            "head": self.head(claim["target"]),
            **{role: paths for role, paths in self.modules_input(claim_id, batch).items() if role not in {"source", "wrong"}},
            "calibration": [f"{self.results}/calibration/{claim_id}/{b}.json" for b in wanted],
            **self.lora_files(claim_id, batch),
        }  # fmt: skip

    def verdict_input(self, claim_id: str) -> dict[str, list[str]]:
        """Return evidence and draws of a claim, their manifests, and those that say what its modules and arms are."""
        batches = self.batches("evaluation", self.config.seeds(claim_id))
        whole = f"1-{self.config.seeds(claim_id)}"
        calibrations = self.batches_for("calibration", self.config.seeds(claim_id), whole)
        return {
            "evidence": [f"{self.results}/evidence/{claim_id}/{b}.csv.gz" for b in batches],
            "draws": [f"{self.results}/evidence/{claim_id}/{b}.draws.csv.gz" for b in batches],
            "manifests": [f"{self.results}/evidence/{claim_id}/{b}.json" for b in batches],
            "calibration": [f"{self.results}/calibration/{claim_id}/{b}.json" for b in calibrations],
            **self.lora_files(claim_id, whole),
            **self.modules_input(claim_id, whole),
            "backbones": sorted({f"{self.results}/backbones/{self.claim(claim_id)[role]}.json" for role in ("source", "target")}),
        }  # fmt: skip

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


def seeds_of(batch: str) -> list[int]:
    """Return the seeds of a batch name `first-last`."""
    first, last = batch.split("-")
    return list(range(int(first), int(last) + 1))
