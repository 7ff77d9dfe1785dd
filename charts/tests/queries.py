"""Every PromQL expression that the chart ships, with what stands in it for what only its reader knows."""

import functools
import json
import re
from typing import Dict, Iterator, List, NamedTuple

import support
from support import RULES, rendered, yaml

DASHBOARDS = sorted((support.CHART / "dashboards").glob("*.json"))
ADAPTER = support.CHART / "adapter" / "rules.yaml"
RUNBOOK = support.CHART / "RUNBOOK.md"

# What Grafana sets in when a dashboard is looked at.
VARIABLES = {
    "__rate_interval": "1m",
    "__range": "5m",
    "namespace": ".*",
    "release": ".*",
    "model": ".*",
    "stable": "1",
    "canary": "2",
}


class Query(NamedTuple):
    where: str
    expr: str


def rules() -> Iterator[Query]:
    for group in yaml(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield Query(f"rules: {rule.get('alert') or rule['record']}", rule["expr"])


@functools.lru_cache(maxsize=None)
def recorded() -> Dict[str, str]:
    """The rules that record: name → expression."""
    found = [rule for group in yaml(RULES.read_text())["groups"] for rule in group["rules"] if "record" in rule]
    return {rule["record"]: rule["expr"] for rule in found}


def dashboards() -> Iterator[Query]:
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield Query(f"{file.stem}: {panel['title']}", filled(target["expr"]))


def variables() -> Iterator[Query]:
    """What dashboards choose among."""
    for file in DASHBOARDS:
        for variable in json.loads(file.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()
                yield Query(f"{file.stem}: ${variable['name']}", filled(f"group by ({label}) ({series})"))


def filled(expr: str) -> str:
    return re.sub(r"\$(\w+)", lambda match: VARIABLES[match.group(1)], expr)


def adapter(matchers: str = 'namespace="default",release="release",model="digits",model_version="1"') -> Iterator[Query]:
    """As prometheus-adapter asks: once for what there is, and for each metric of some pods or of a version."""
    both = yaml(ADAPTER.read_text())
    for rule in [*both["rules"], *both["externalRules"]]:
        name = rule["name"]["as"]
        yield Query(f"adapter: discovery of {name}", rule["seriesQuery"])
        text = rule["metricsQuery"].replace("<<.LabelMatchers>>", matchers).replace("<<.GroupBy>>", "pod")
        assert "<<" not in text, text
        yield Query(f"adapter: {name}", text)


def keda() -> Iterator[Query]:
    for scaler in [*rendered("keda").of("ScaledObject"), *gpu().of("ScaledObject")]:
        for trigger in scaler["spec"]["triggers"]:
            if trigger["type"] == "prometheus":
                yield Query(f"KEDA: {scaler['metadata']['name']}", trigger["metadata"]["query"])


def gpu():
    server = "http://prometheus.example"
    return rendered("gpu", backend={"autoscaling": {"by": "keda", "keda": {"serverAddress": server}}})


def runbook() -> Iterator[Query]:
    for block in re.findall(r"(?s)```promql\n(.+?)```", RUNBOOK.read_text()):
        for expr in filter(None, block.splitlines()):
            yield Query("RUNBOOK.md", expr)


@functools.lru_cache(maxsize=None)
def every() -> List[Query]:
    return [*rules(), *dashboards(), *variables(), *adapter(), *keda(), *runbook()]
