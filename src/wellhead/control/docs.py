"""``/api/docs``: the OpenAPI document as a page that loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1d2733; background: #fff }
h2 { margin: 2.5rem 0 .25rem; font: 600 1.05rem/1.4 ui-monospace, monospace; border-top: 1px solid #d5dbe1;
     padding-top: 1rem }
h2 b { display: inline-block; min-width: 4.5rem; color: #0a6b4f }
table { border-collapse: collapse; margin: .5rem 0; width: 100% }
td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
     border-bottom: 1px solid #eef1f4 }
td:first-child { font-family: ui-monospace, monospace; width: 16rem }
h3 { font-size: .85rem; margin: 1rem 0 0; color: #5b6875; text-transform: uppercase; letter-spacing: .05em }
@media (prefers-color-scheme: dark) {
  body { background: #14191f; color: #d8dee5 } h2, td { border-color: #2b343d } h2 b { color: #54c59f } }
"""

Document = Mapping[str, Any]  # OpenAPI 3.1, as FastAPI makes it


def links(parameter: str, found: str, *operations: str) -> dict[int | str, dict[str, Any]]:
    """For ``responses`` of a route that answers 201: where to go on with what it made.

    ``found`` is a runtime expression of OpenAPI 3.1 that gives the value of ``parameter``.
    """
    made = {name: {"operationId": name, "parameters": {parameter: found}} for name in operations}
    return {201: {"links": made}}


_SCHEMAS = "#/components/schemas/"


def reference(model: type[object]) -> str:
    """How the document refers to a record that ``describe`` puts into it."""
    return _SCHEMAS + model.__name__


def describe(app: FastAPI, *models: type[object]) -> None:
    """Put records into the document that no route has as its model."""
    document = app.openapi

    def with_models() -> dict[str, Any]:
        made = document()
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        for model in models:
            schema = TypeAdapter(model).json_schema(ref_template=_SCHEMAS + "{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        return made

    app.openapi = with_models  # type: ignore[method-assign]  # FastAPI's own way to extend it


def page(document: Document) -> str:
    """The whole page."""
    title = escape(f"{document['info']['title']} API {document['info']['version']}")
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style><h1>{title}</h1>",
        "<p>Send the key in <code>X-API-Key</code>. An error is <code>{&quot;detail&quot;: …}</code> with its"
        ' status. For programs: <a href="/api/openapi.json">openapi.json</a>.',
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += _operation(document, path, method, operation)
    return "\n".join(parts)


def _operation(document: Document, path: str, method: str, operation: Document) -> Iterator[str]:
    yield f"<h2><b>{escape(method.upper())}</b> {escape(path)}</h2>"
    yield f"<p>{escape(operation.get('description') or operation.get('summary', ''))}"
    if parameters := operation.get("parameters"):
        yield from _table(
            "parameters", [(p["name"], p["schema"], p["required"]) for p in parameters], document
        )
    if body := operation.get("requestBody"):
        yield from _table("body", _fields(body, document), document)
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            given = [(name, schema, True) for name, schema, _ in _fields(answer, document)]
            yield from _table(f"answer {status}", given, document)


def _fields(content: Document, document: Document) -> list[tuple[str, Document, bool]]:
    if (described := content.get("content", {}).get("application/json")) is None:
        return []
    schema = _resolve(described["schema"], document)
    needed = schema.get("required", [])
    return [(name, field, name in needed) for name, field in schema.get("properties", {}).items()]


def _table(caption: str, rows: list[tuple[str, Document, bool]], document: Document) -> Iterator[str]:
    yield f"<h3>{escape(caption)}</h3><table>"
    for name, schema, needed in rows:
        facts = [_type(schema, document), "" if needed else "optional", schema.get("description", "")]
        yield f"<tr><td>{escape(name)}<td>{escape(' · '.join(filter(None, facts)))}"
    yield "</table>"


def _type(schema: Document, document: Document) -> str:
    schema = _resolve(schema, document)
    if choices := schema.get("anyOf"):
        return " or ".join(_type(choice, document) for choice in choices)
    if values := schema.get("enum"):
        return " or ".join(json.dumps(value) for value in values)
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'], document)}"
    return str(schema.get("title" if "properties" in schema else "format", schema.get("type", "any value")))


def _resolve(schema: Document, document: Document) -> Document:
    while reference := schema.get("$ref"):
        resolved: Document = document["components"]["schemas"][reference.rpartition("/")[2]]
        schema = resolved
    return schema
