"""What a run has made, in a form in which two runs can be compared."""

import hashlib
import json

TAKEN = {"elapsed_s", "peak_memory_mb", "inputs", "outputs", "seal"}
"""Keys of provenance that no two runs share: what a job took, and hashes of what says so, as those of JSON files are."""


def files(root):
    """Return every output of a run, by its path from the root."""
    found = (path.relative_to(root) for path in (root / "results").rglob("*") if path.is_file())
    return sorted(path for path in found if path.parts[2] not in ("logs", "benchmarks"))


def content(path):
    """Return the hash of what a file says; of a JSON file without what no two runs share."""
    if path.suffix != ".json":
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def said(value):
        if isinstance(value, dict):
            return {k: said(v) for k, v in value.items() if k not in TAKEN and not k.endswith(".json")}
        return [said(v) for v in value] if isinstance(value, list) else value

    return hashlib.sha256(json.dumps(said(json.loads(path.read_text())), sort_keys=True).encode()).hexdigest()
