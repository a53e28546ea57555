"""Every path below `results/<scale>`, each said once. Rules repeat them as patterns, which is their language."""

from collections.abc import Iterable

Needed = tuple[str, str, str, str]
"""A trained module: backbone, text, shape, role."""


class Paths:
    """The paths of one scale, relative to the working directory."""

    def __init__(self, scale: str) -> None:
        self.results = f"results/{scale}"

    def text_files(self, text: str) -> dict[str, str]:
        """Return the documents of a text and the record that says which belong to which split."""
        place = f"{self.results}/corpus/{text}"
        return {"documents": f"{place}.jsonl.gz", "record": f"{place}.json"}

    def backbone_folder(self, backbone: str) -> str:
        """Return the folder of a backbone in the Hugging Face layout."""
        return f"{self.results}/backbones/{backbone}"

    def backbone(self, backbone: str) -> str:
        """Return the manifest of a backbone."""
        return f"{self.backbone_folder(backbone)}.json"

    def head(self, backbone: str) -> str:
        """Return the file of a backbone's head."""
        return f"{self.results}/heads/{backbone}.safetensors"

    def tokens(self, backbone: str) -> str:
        """Return the file of a backbone's vocabulary as spellings."""
        return f"{self.results}/heads/{backbone}.tokens.json"

    def states(self, backbone: str, text: str, split: str) -> str:
        """Return the manifest of the states of a backbone on one split of a text."""
        return f"{self.results}/states/{backbone}/{text}.{split}.json"

    def modules(self, of: Needed, batches: Iterable[str]) -> list[str]:
        """Return the manifests of trained modules of some batches of seeds."""
        return [f"{self.results}/modules/{'/'.join(of)}/{batch}.json" for batch in batches]

    def updated(self, update: str, stage: str, batch: str) -> str:
        """Return the manifest of the updated backbones of a batch of seeds."""
        return f"{self.results}/updates/{update}/{stage}/{batch}.json"

    def updated_states(self, update: str, stage: str, text: str, batch: str) -> str:
        """Return the manifest of the states of updated backbones on a text."""
        return f"{self.results}/updated_states/{update}/{stage}/{text}/{batch}.json"

    def updated_modules(self, update: str, stage: str, text: str, batch: str) -> str:
        """Return the manifest of the oracles trained on updated backbones."""
        return f"{self.results}/updated_modules/{update}/{stage}/{text}/{batch}.json"

    def of_claim(self, stage: str, claim_id: str, batches: Iterable[str]) -> list[str]:
        """Return the manifests of a claim's `alignments`, `written`, `calibration` or `lora`, one per batch."""
        return [f"{self.results}/{stage}/{claim_id}/{batch}.json" for batch in batches]

    def evidence(self, claim_id: str, batches: Iterable[str]) -> dict[str, list[str]]:
        """Return evidence and draws of a claim and their manifests."""
        kinds = {"evidence": "csv.gz", "draws": "draws.csv.gz", "manifests": "json"}
        places = [f"{self.results}/evidence/{claim_id}/{batch}" for batch in batches]
        return {name: [f"{place}.{end}" for place in places] for name, end in kinds.items()}

    def generation(self, claim_id: str) -> str:
        """Return the manifest of texts generated for a claim."""
        return f"{self.results}/generation/{claim_id}.json"

    @property
    def benchmarks(self) -> str:
        """Folder of Snakemake's benchmarks."""
        return f"{self.results}/benchmarks"
