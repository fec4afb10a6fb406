"""The messages' format as JSON Schema, made from the models of `edged.wire`, for tools and clients of others.

Beside the data path: docs/verdict.schema.json is written from here. Messages are msgpack, but hold nothing that JSON
does not have, so a decoded one can be checked against it as it is.
"""

from typing import Any

from edged.wire import MESSAGES, SCHEMA

__all__ = ["message_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def message_schema() -> dict[str, Any]:
    """One schema for all messages; which of them a message is, its `kind` says.

    Unknown fields are allowed, and fields that came later may be missing, as in entries of an old journal.
    """
    definitions: dict[str, Any] = {}
    for kind, model in MESSAGES.items():
        found = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= found.pop("$defs", {})
        found["properties"] = {"schema": {"const": SCHEMA}, **found["properties"]}
        found["required"] = ["schema", "kind", *found["required"]]
        definitions[kind] = found
    return {
        "$schema": DIALECT,
        "title": "edged: verdicts on the wire",
        "description": "Payloads of published messages, decoded from msgpack; see verdict.md.",
        "oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in MESSAGES],
        "$defs": {name: _without_titles(definitions[name]) for name in sorted(definitions)},
    }


def _without_titles(schema: Any) -> Any:
    """pydantic makes a title of each name, which says nothing that the name does not."""
    if isinstance(schema, dict):
        is_title = isinstance(schema.get("title"), str)
        return {key: _without_titles(value) for key, value in schema.items() if key != "title" or not is_title}
    return [_without_titles(item) for item in schema] if isinstance(schema, list) else schema
