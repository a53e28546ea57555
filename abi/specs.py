"""What each job of the DAG depends on: its spec (a plain dict), its input files, its batches of seeds.

Rules ask here and hold no logic themselves. A spec holds everything an output depends on and nothing else, so that one
edit in `config/` reruns its own jobs only (FINDINGS part 2: one dict param per rule).
"""

from collections.abc import Mapping
from typing import Any

from abi.config import Config, closest
from abi.errors import ConfigError
from abi.provenance import sha256_file


class Study:
    """The jobs of one configuration. Paths are relative to the working directory."""

    def __init__(self, config: Config) -> None:
        self.config, self.scale = config, config.scale
        self.results = f"results/{config.name}"

    # what there is

    def claim(self, claim_id: str) -> dict[str, Any]:
        """Return a claim. Raises: ConfigError: unknown, with the list of claims."""
        claims = self.config.claims
        if claim_id not in claims:
            raise ConfigError(f"no claim {claim_id!r}{closest(claim_id, claims)}; claims: {', '.join(claims)}")
        return claims[claim_id]

    def claim_of_file(self, result: str) -> str:
        """Return the claim id of a result file's stem."""
        return next(c for c, claim in self.config.claims.items() if claim["record"]["result_file"] == f"{result}.json")

    def result_file(self, claim_id: str) -> str:
        """Return the path of a claim's result file."""
        return f"{self.results}/{self.claim(claim_id)['record']['result_file']}"

    def result_files(self) -> list[str]:
        """Return the result files of all claims."""
        return [self.result_file(claim_id) for claim_id in self.config.claims]

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
        return {
            "source": (claim["source"], text, claim["module"], "source"),
            "oracle": (target, text, claim["module"], "oracle"),
            "reference": (target, text, claim["module"], "reference"),
        }

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
            "kind": claim["kind"], "arms": claim["arms"], "fit": claim["fit"], "budget": self.scale["calibration"][claim["fit"]],
            "module": self._shape(claim["module"]), "text": claim["text"], "seeds": seeds_of(batch),
        }  # fmt: skip

    def evaluation_spec(self, claim_id: str, batch: str) -> dict[str, Any]:
        """What the evidence of a batch of seeds depends on."""
        claim = self.claim(claim_id)
        return {"kind": claim["kind"], "seeds": seeds_of(batch), **self.scale["evaluation"]}

    def verdict_spec(self, claim_id: str) -> dict[str, Any]:
        """What a verdict depends on besides the evidence."""
        claim = self.claim(claim_id)
        keys = ("title", "statement", "kind", "regime", "text", "source", "target", "module", "fit", "record")
        return {
            "id": claim_id, "scale": self.config.name, "claim": {key: claim[key] for key in keys}, "protocol": self.config.protocol,
            "n_claims": len(self.config.claims),
            "published_sha256": sha256_file(self.config.root / "config" / "record" / "published.json"),
            "seeds": self.config.seeds(claim_id), "meaningless": self.scale["meaningless"],
            "backbones": {role: self.backbone_spec(claim[role]) for role in ("source", "target")},
            "budget": self.scale["calibration"][claim["fit"]], "d_abi": self.scale["modules"][claim["module"]]["d_abi"],
            "training_steps": sum(p["steps"] for p in self.scale["modules"][claim["module"]]["training"]["phases"]),
        }  # fmt: skip

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
        """Return the inputs of an alignment: states of the alignment text and domain text, source and oracle modules."""
        claim, settings = self.claim(claim_id), self.scale["alignment"]
        modules = self.modules_input(claim_id, batch)
        return {
            "source_states": self.states(claim["source"], settings["text"], settings["split"]),
            "target_states": self.states(claim["target"], settings["text"], settings["split"]),
            "source": modules["source"], "oracle": modules["oracle"],
        }  # fmt: skip

    def calibration_input(self, claim_id: str, batch: str) -> dict[str, Any]:
        """Return the inputs of a calibration: train states, head, modules, and for a transfer the alignments."""
        claim = self.claim(claim_id)
        inputs: dict[str, Any] = {
            "train": self.states(claim["target"], claim["text"], "train"),
            "head": f"{self.results}/heads/{claim['target']}.safetensors",
            **{
                role: paths
                for role, paths in self.modules_input(claim_id, batch).items()
                if self._calibrates_with(claim, role)
            },
        }
        if claim["kind"] == "transfer":
            wanted = self.batches_for("alignments", self.config.seeds(claim_id), batch)
            inputs["alignment"] = [f"{self.results}/alignments/{claim_id}/{b}.json" for b in wanted]
        return inputs

    @staticmethod
    def _calibrates_with(claim: Mapping[str, Any], role: str) -> bool:
        """The reference of a transfer is never a teacher; the oracle of a reconstruction teaches nobody."""
        return role != ("reference" if claim["kind"] == "transfer" else "oracle")

    def evaluation_input(self, claim_id: str, batch: str) -> dict[str, Any]:
        """Return the inputs of an evaluation: states of all scopes, head, native modules, fitted arms."""
        claim = self.claim(claim_id)
        wanted = self.batches_for("calibration", self.config.seeds(claim_id), batch)
        return {
            "domain": self.states(claim["target"], claim["text"], "test"),
            "general": self.states(claim["target"], self.scale["alignment"]["text"], "test"),
            "train": self.states(claim["target"], claim["text"], "train"),
            "head": f"{self.results}/heads/{claim['target']}.safetensors",
            **{role: paths for role, paths in self.modules_input(claim_id, batch).items() if role != "source"},
            "calibration": [f"{self.results}/calibration/{claim_id}/{b}.json" for b in wanted],
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
            **self.modules_input(claim_id, whole),
            "backbones": sorted({f"{self.results}/backbones/{self.claim(claim_id)[role]}.json" for role in ("source", "target")}),
        }  # fmt: skip

    def states(self, backbone: str, text: str, split: str) -> str:
        """Return the manifest of the states of a backbone on one split of a text."""
        return f"{self.results}/states/{backbone}/{text}.{split}.json"


def seeds_of(batch: str) -> list[int]:
    """Return the seeds of a batch name `first-last`."""
    first, last = batch.split("-")
    return list(range(int(first), int(last) + 1))
