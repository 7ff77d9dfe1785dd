"""What a PromQL expression names: as much of the language as that takes. promtool judges the rest."""

import re
from typing import Dict, Iterator, List, NamedTuple, Set

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
MATCHER = re.compile(rf"({NAME})\s*(=~|!~|!=|=)\s*(\d+)")
# A name that no bracket follows is a series; one that a bracket follows is a function.
SERIES = re.compile(rf"(?<![\w:$.])({NAME})\s*(\{{[^}}]*\}})?(?!\s*\()(?![\w:])")
WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right", "inf", "nan"}


class Selector(NamedTuple):
    """One choice of series: the name, and label → (operator, value)."""

    name: str
    matchers: Dict[str, List[str]]

    def __str__(self) -> str:
        return self.name + "{" + ",".join(f'{key}{op}"{value}"' for key, (op, value) in self.matchers.items()) + "}"


class Named(NamedTuple):
    selectors: List[Selector]
    grouped: Set[str]


def named(expression: str) -> Named:
    """The series that an expression names, and the labels that it groups or matches by."""
    strings: List[str] = []

    def hide(match: "re.Match[str]") -> str:
        strings.append(match.group(0)[1:-1])
        return f" {len(strings) - 1} "

    text = re.sub(r"(?m)#.*$", "", STRING.sub(hide, expression))
    grouped = {label.strip() for labels in GROUPING.findall(text) for label in labels.split(",") if label.strip()}
    text = GROUPING.sub(" ", text)
    # Ranges, and what follows `offset`, are durations.
    text = re.sub(r"\[[^\]]*\]", " ", text)
    text = re.sub(r"\boffset\s+\S+", " ", text)
    # A new label of label_replace.
    grouped |= {strings[int(at)] for at in re.findall(r"label_replace\([^()]*\([^()]*(?:\([^()]*\))?[^()]*\)\s*,\s*(\d+)", text)}
    return Named(list(selectors(text, strings)), grouped)


def selectors(text: str, strings: List[str]) -> Iterator[Selector]:
    for name, braces in SERIES.findall(text):
        if name.lower() not in WORDS:
            matchers = {label: [op, strings[int(at)]] for label, op, at in MATCHER.findall(braces)}
            yield Selector(name, matchers)
