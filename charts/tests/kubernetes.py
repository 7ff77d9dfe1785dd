"""Kubernetes' own JSON Schemas, and as much of a validator as they need.

They come without their network: in the wheel of `kubernetes-validate`, which is read as a zip file
because it holds 13,000 of them. Its "strict" ones allow no unknown key. The validator knows the
keywords that they use and refuses any other, so that none is passed over in silence; it was written
because compiling them for a general one took most of the time of all checks.
"""

import functools
import json
import os
import zipfile
from typing import Any, Iterator, Mapping

PREFIX = "kubernetes_validate/kubernetes-json-schema/v{}-local-strict/"

TYPES = {
    "object": lambda it: isinstance(it, dict),
    "array": lambda it: isinstance(it, list),
    "string": lambda it: isinstance(it, str),
    "boolean": lambda it: isinstance(it, bool),
    "integer": lambda it: isinstance(it, int) and not isinstance(it, bool),
    "number": lambda it: isinstance(it, (int, float)) and not isinstance(it, bool),
    "null": lambda it: it is None,
}

# They describe, or ask for what only a server can judge.
PASSED_OVER = {"description", "default", "format", "$schema", "$id"}
KNOWN = {"type", "$ref", "enum", "required", "properties", "additionalProperties", "items", "oneOf"} | PASSED_OVER


def faults(version: str, obj: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with an object in that version of Kubernetes."""
    group = [part.split(".")[0] for part in obj["apiVersion"].split("/")]
    return judge(version, read(version, "-".join([obj["kind"].lower(), *group]) + ".json"), obj, obj["kind"])


@functools.lru_cache(maxsize=None)
def archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(os.environ["KUBERNETES_SCHEMAS"])


@functools.lru_cache(maxsize=None)
def read(version: str, name: str) -> Any:
    return json.loads(archive().read(PREFIX.format(version) + name))


def judge(version: str, schema: Mapping[str, Any], value: Any, at: str) -> Iterator[str]:
    """What is wrong with the value at this place and below."""
    unknown = {key for key in schema if key not in KNOWN and not key.startswith("x-kubernetes-")}
    assert not unknown, f"{at}: the validator does not know {unknown}"
    if "$ref" in schema:
        _, name = schema["$ref"].split("#/$defs/")
        yield from judge(version, read(version, "_definitions.json")["$defs"][name], value, at)
    types = schema.get("type", list(TYPES))
    if not any(TYPES[name](value) for name in ([types] if isinstance(types, str) else types)):
        yield f"{at}: expected {types}, got {value!r}"
        return
    if value is not None and value not in schema.get("enum", [value]):
        yield f"{at}: expected one of {schema['enum']}, got {value!r}"
    if "oneOf" in schema and sum(not list(judge(version, it, value, at)) for it in schema["oneOf"]) != 1:
        yield f"{at}: {value!r} is not exactly one of {schema['oneOf']}"
    if isinstance(value, dict):
        yield from judge_object(version, schema, value, at)
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from judge(version, schema["items"], item, f"{at}[{index}]")


def judge_object(version: str, schema: Mapping[str, Any], value: Mapping[str, Any], at: str) -> Iterator[str]:
    for key in schema.get("required", []):
        if key not in value:
            yield f"{at}.{key}: missing"
    others = schema.get("additionalProperties", True)
    for key, item in value.items():
        inner = schema.get("properties", {}).get(key, others)
        if inner is False:
            yield f"{at}.{key}: unknown"
        elif inner is not True:
            yield from judge(version, inner, item, f"{at}.{key}")
