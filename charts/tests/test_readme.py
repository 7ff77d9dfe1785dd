"""The README's table of values is made from values.yaml, and its links lead somewhere."""

import json
import re
import sys
from pathlib import Path
from typing import Iterator, List, NamedTuple
from unittest import TestCase

import support
from support import yaml

README = support.CHART / "README.md"
VALUES = support.CHART / "values.yaml"
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"


class Line(NamedTuple):
    """A key of values.yaml, with the comment above it."""

    path: List[str]
    comment: List[str]


def lines(text: str) -> Iterator[Line]:
    comment: List[str] = []
    path: List[str] = []
    for line in text.splitlines():
        told = re.match(r" *# ?(.*)$", line)
        key = re.match(r"( *)(\w+):", line)
        if told:
            comment.append(told.group(1))
        elif key:
            path = [*path[: len(key.group(1)) // 2], key.group(2)]
            yield Line(list(path), comment)
            comment = []
        else:
            comment = []


def table(text: str) -> str:
    values = yaml(text)
    told = [it for it in lines(text) if it.comment]
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for line in told:
        default = values
        for key in line.path:
            default = default[key]
        # A table that only groups is told by what is in it.
        if any(it.path[: len(line.path)] == line.path and it.path != line.path for it in told):
            continue
        # The first paragraph; more is to be read in the file.
        paragraph = " ".join(line.comment).split("  ")[0] if "" not in line.comment else ""
        paragraph = paragraph or " ".join(line.comment[: line.comment.index("")])
        cells = [f"`{'.'.join(line.path)}`", f"`{json.dumps(default, ensure_ascii=False)}`", paragraph]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def with_table(readme: str) -> str:
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + table(VALUES.read_text()) + END + after


class Readme(TestCase):
    def test_the_table_of_values_is_that_of_the_file(self):
        readme = README.read_text()
        self.assertEqual(readme, with_table(readme), "to mend it: scripts/check_charts.sh --write-readme")

    def test_each_value_is_in_the_table(self):
        rows = re.findall(r"(?m)^\| `([\w.]+)`", table(VALUES.read_text()))
        self.assertEqual(len(rows), len(set(rows)))

        def leaves(value, path: str) -> Iterator[str]:
            if path in rows or not isinstance(value, dict) or not value:
                yield path
                return
            for key, inner in value.items():
                yield from leaves(inner, f"{path}.{key}" if path else key)

        self.assertEqual([it for it in leaves(yaml(VALUES.read_text()), "") if it not in rows], [])

    def test_its_links_and_examples_are_there(self):
        for link in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
            self.assertTrue((support.CHART / link).exists(), link)
        for named in re.findall(r"`(ci/[\w.]+|rules/[\w.]+|adapter/[\w.]+|dashboards/?)`", README.read_text()):
            self.assertTrue((support.CHART / named).exists(), named)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write-readme"]:
        written = with_table(README.read_text())
        Path(README).write_text(written)
