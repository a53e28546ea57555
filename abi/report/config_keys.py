"""The key tables of `config/README.md`, from the models of the configuration files."""

from collections.abc import Iterator

from abi.plan.config import models
from abi.plan.sentences import Schema
from abi.report.render import Table, markdown

LONG = 40
"""Characters of a value that needs no telling: a formula."""


def key_tables() -> str:
    """Return one table of keys per configuration file: key, meaning."""
    parts = []
    for title, model in models().items():
        rows = [[f"`{key}`", what] for key, what in _rows(model.model_json_schema()).items()]
        parts.append(f"\n## {title}\n\n{markdown(Table(['key', 'what'], rows))}\n")
    return "".join(parts) + "\n"


def _rows(schema: Schema) -> dict[str, str]:
    """Return dotted key -> its meaning and the values it may have, of every key that says something."""
    words: dict[str, str] = {}
    choices: dict[str, list[str]] = {}
    for key, what, values in _keys(schema, schema["$defs"], ""):
        words[key] = words.get(key) or what
        known = choices.setdefault(key, [])
        known += [value for value in values if value not in known]
    told = {key: f" (one of {', '.join(values)})" if all(values) and values else "" for key, values in choices.items()}
    return {key: f"{what}{told[key]}".strip() for key, what in words.items() if what or told[key]}


def _keys(schema: Schema, models: dict[str, Schema], prefix: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (dotted key, meaning, values) of every key of a schema, references followed; some come several times."""
    for part in _parts(schema, models):
        if "items" in part:
            yield from _keys(part["items"], models, f"{prefix}[]")
        for name, child in _children(part).items():
            key = f"{prefix}.{name}" if prefix else name
            yield key, child.get("description", ""), _values(child, models)
            yield from _keys(child, models, key)


def _children(part: Schema) -> Schema:
    """Return key -> schema of a mapping; `<name>` stands for a key that is free."""
    free = [part.get("additionalProperties"), *part.get("patternProperties", {}).values()]
    named = next((found for found in free if isinstance(found, dict)), None)
    return {**part.get("properties", {}), **({"<name>": named} if named else {})}


def _parts(schema: Schema, models: dict[str, Schema]) -> Iterator[Schema]:
    """Yield what a schema may be: itself, or each of several."""
    if "$ref" in schema:
        yield from _parts(models[schema["$ref"].rpartition("/")[2]], models)
    elif several := schema.get("anyOf") or schema.get("oneOf"):
        for part in several:
            yield from _parts(part, models)
    else:
        yield schema


def _values(schema: Schema, models: dict[str, Schema]) -> list[str]:
    """Return the words a key may have, where there are but some."""
    found = [part.get("enum", [part["const"]] if "const" in part else []) for part in _parts(schema, models)]
    return [value for values in found for value in values if isinstance(value, str) and len(value) < LONG]
