"""What Prometheus Operator and KEDA take, by the typed models that are made of their definitions.

They come in wheels of Python source, one class for a table. The source is read and not run, for it wants
packages of its own: of each class that is met, its fields, their types, their names in YAML and whether
they may be left out. A key that a class does not know is a fault, as in a strict client.
"""

import ast
import functools
import os
import re
import zipfile
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional

# The module that holds a group's kinds.
MODULES = {
    "monitoring.coreos.com/v1": ("CUSTOM_PROMETHEUS", "cloudcoil/models/prometheus_operator/v1.py"),
    "keda.sh/v1alpha1": ("CUSTOM_KEDA", "cloudcoil/models/keda/v1alpha1.py"),
}
PLAIN = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


class Field(NamedTuple):
    type: ast.expr
    required: bool
    pattern: Optional[str]


def knows(obj: Mapping[str, Any]) -> bool:
    return obj["apiVersion"] in MODULES


def faults(obj: Mapping[str, Any]) -> List[str]:
    """What is wrong with an object."""
    module = read(*MODULES[obj["apiVersion"]])
    assert obj["kind"] in module.sources, f"there is no {obj['kind']} in {obj['apiVersion']}"
    return list(module.judge(ast.Name(obj["kind"]), obj, obj["kind"]))


@functools.lru_cache(maxsize=None)
def read(wheel: str, name: str) -> "Module":
    return Module(zipfile.ZipFile(os.environ[wheel]).read(name).decode())


class Module:
    """The classes of one source, each read when it is asked for: there are thousands."""

    def __init__(self, text: str):
        starts = [match.start() for match in re.finditer(r"(?m)^class ", text)] + [len(text)]
        blocks = [text[start:end] for start, end in zip(starts, starts[1:])]
        self.sources = {re.match(r"class (\w+)", block).group(1): block for block in blocks}
        self.read: Dict[str, ast.ClassDef] = {}

    def node(self, name: str) -> ast.ClassDef:
        if name not in self.read:
            self.read[name] = next(it for it in ast.parse(self.sources[name]).body if isinstance(it, ast.ClassDef))
        return self.read[name]

    def fields(self, name: str) -> Dict[str, Field]:
        found = {}
        for statement in self.node(name).body:
            if isinstance(statement, ast.AnnAssign) and not statement.target.id.startswith("__"):
                kind, extra = annotated(statement.annotation)
                found[extra.get("alias", statement.target.id)] = Field(
                    kind, statement.value is None, extra.get("pattern")
                )
        return found

    def judge(self, kind: ast.expr, value: Any, at: str) -> Iterator[str]:
        """What is wrong with the value at this place and below."""
        choices = list(alternatives(kind))
        if value is None and any(isinstance(it, ast.Constant) and it.value is None for it in choices):
            return
        verdicts = [list(self.judge_one(it, value, at)) for it in choices if not is_none(it)]
        yield from min(verdicts, key=len)

    def judge_one(self, kind: ast.expr, value: Any, at: str) -> Iterator[str]:
        kind, _ = annotated(kind)
        if isinstance(kind, ast.Subscript):
            yield from self.judge_container(kind, value, at)
        elif isinstance(kind, ast.Name) and kind.id in PLAIN:
            if not isinstance(value, PLAIN[kind.id]) or (isinstance(value, bool) and kind.id != "bool"):
                yield f"{at}: expected {kind.id}, got {value!r}"
        elif isinstance(kind, ast.Name) and kind.id in self.sources:
            yield from self.judge_class(kind.id, value, at)
        # Anything else is of another package, as the metadata of every object.

    def judge_container(self, kind: ast.Subscript, value: Any, at: str) -> Iterator[str]:
        name = kind.value.id
        if name == "Literal":
            known = [it.value for it in (kind.slice.elts if isinstance(kind.slice, ast.Tuple) else [kind.slice])]
            if value not in known:
                yield f"{at}: expected one of {known}, got {value!r}"
        elif name in ("list", "List"):
            if not isinstance(value, list):
                yield f"{at}: expected a list, got {value!r}"
                return
            for index, item in enumerate(value):
                yield from self.judge(kind.slice, item, f"{at}[{index}]")
        elif name in ("dict", "Dict"):
            if not isinstance(value, dict):
                yield f"{at}: expected a table, got {value!r}"
                return
            for key, item in value.items():
                yield from self.judge(kind.slice.elts[1], item, f"{at}.{key}")
        else:
            raise AssertionError(f"{at}: the validator does not know {name}")

    def judge_class(self, name: str, value: Any, at: str) -> Iterator[str]:
        for base in self.node(name).bases:
            if isinstance(base, ast.Subscript) and base.value.id == "RootModel":
                yield from self.judge(base.slice, value, at)
                return
        fields = self.fields(name)
        if set(fields) == {"root"}:
            yield from self.judge(fields["root"].type, value, at)
            return
        if not isinstance(value, dict):
            yield f"{at}: expected a table, got {value!r}"
            return
        for key, field in fields.items():
            if field.required and key not in value:
                yield f"{at}.{key}: missing"
        for key, item in value.items():
            if key not in fields:
                yield f"{at}.{key}: unknown"
                continue
            pattern = fields[key].pattern
            if pattern and isinstance(item, str) and not re.search(pattern, item):
                yield f"{at}.{key}: {item!r} does not match {pattern}"
            yield from self.judge(fields[key].type, item, f"{at}.{key}")


def annotated(kind: ast.expr):
    """The type of `Annotated[TYPE, Field(…)]`, and what the field says; of any other, that and nothing."""
    extra: Dict[str, Any] = {}
    while isinstance(kind, ast.Subscript) and getattr(kind.value, "id", "") == "Annotated":
        inner, *others = kind.slice.elts
        for call in others:
            for word in getattr(call, "keywords", []):
                if isinstance(word.value, ast.Constant):
                    extra.setdefault(word.arg, word.value.value)
        kind = inner
    return kind, extra


def alternatives(kind: ast.expr) -> Iterator[ast.expr]:
    """The types of `A | B | None`."""
    kind, _ = annotated(kind)
    if isinstance(kind, ast.BinOp) and isinstance(kind.op, ast.BitOr):
        yield from alternatives(kind.left)
        yield from alternatives(kind.right)
    else:
        yield kind


def is_none(kind: ast.expr) -> bool:
    return isinstance(kind, ast.Constant) and kind.value is None
