"""What the models of `config/` say, written out as JSON Schemas, for editors and other tools."""

import json

from pydantic import BaseModel

from abi.plan.kinds import claims_model
from abi.plan.scale import Scale
from abi.plan.specs.judge import Protocol

FOLDER = "workflow/schemas"


def models() -> dict[str, tuple[str, type[BaseModel]]]:
    """Return name of a schema -> the configuration file it is of, and its model."""
    return {
        "claims": ("config/claims.yaml", claims_model()),
        "scale": ("config/scales/<scale>.yaml", Scale),
        "protocol": ("config/protocol.yaml", Protocol),
    }


def schema_files() -> dict[str, str]:
    """Return path from the repository root -> text of every JSON Schema."""
    found = {}
    for name, (file, model) in models().items():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(), "title": file}
        found[f"{FOLDER}/{name}.schema.json"] = json.dumps(schema, indent=1) + "\n"
    return found
