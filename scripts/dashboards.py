#!/usr/bin/env python3
"""Writes the Grafana dashboards of the Helm chart: charts/aegis/dashboards/*.json.

A dashboard's JSON is 95 % layout. Here stands the rest: what is asked, in which unit, and what it means. The
files are committed, so that they can be imported by hand; `scripts/check_charts.sh --write-dashboards` writes
them, and the checks say when that was forgotten.
"""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

FOLDER = Path(__file__).resolve().parent.parent / "charts" / "aegis" / "dashboards"

# The width of the grid, and the height of a panel in it.
COLUMNS, HEIGHT = 24, 8

Query = Tuple[str, str]  # an expression, and the legend of its series

SOURCE = {"type": "prometheus", "uid": "${source}"}

# Which series: those of the chosen releases and models.
NS = 'namespace=~"$namespace",release=~"$release"'
MODEL = NS + ',model=~"$model"'
# What the backends count, and not the proxies under the same names.
POD = 'via="",' + MODEL


class Panel(NamedTuple):
    title: str
    meaning: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    # Lines or colours from these values on, the first being good.
    steps: Sequence[Tuple[str, float]] = ()
    most: float = 0
    # Names of values, as of a state.
    words: Dict[int, Tuple[str, str]] = {}

    def json(self, number: int, x: int, y: int) -> Dict[str, Any]:
        defaults: Dict[str, Any] = {"unit": self.unit, "custom": self.custom(), "mappings": self.mappings()}
        steps = [{"color": "green", "value": None}] + [{"color": color, "value": value} for color, value in self.steps]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        if self.unit == "percentunit" or self.most:
            defaults["min"] = 0
            defaults["max"] = self.most or 1
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.meaning,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": HEIGHT},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": self.options(),
            "targets": [
                {
                    "refId": chr(ord("A") + at),
                    "datasource": SOURCE,
                    "expr": expr,
                    "legendFormat": legend,
                    "instant": self.kind == "stat",
                    "range": self.kind != "stat",
                    "format": "heatmap" if self.kind == "heatmap" else "time_series",
                }
                for at, (expr, legend) in enumerate(self.queries)
            ],
        }

    def custom(self) -> Dict[str, Any]:
        if self.kind == "timeseries":
            lines = {"thresholdsStyle": {"mode": "line" if self.steps else "off"}}
            stacking = {"mode": "normal" if self.stacked else "none", "group": "A"}
            return {"lineWidth": 1, "fillOpacity": 20 if self.stacked else 5, "showPoints": "never", "stacking": stacking, **lines}
        if self.kind == "state-timeline":
            return {"lineWidth": 0, "fillOpacity": 80}
        return {}

    def mappings(self) -> List[Dict[str, Any]]:
        options = {str(value): {"text": text, "color": color} for value, (text, color) in self.words.items()}
        return [{"type": "value", "options": options}] if options else []

    def options(self) -> Dict[str, Any]:
        if self.kind == "stat":
            return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value"}
        if self.kind == "heatmap":
            return {"calculate": False, "yAxis": {"unit": self.unit}, "color": {"mode": "scheme", "scheme": "Blues"}}
        if self.kind == "state-timeline":
            return {"mergeValues": True, "showValue": "never", "rowHeight": 0.8, "tooltip": {"mode": "single"}}
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}


class Row(NamedTuple):
    title: str
    panels: Sequence[Panel]


class Dashboard(NamedTuple):
    name: str
    title: str
    about: str
    rows: Sequence[Row]
    variables: Sequence[Dict[str, Any]] = ()

    def json(self) -> Dict[str, Any]:
        panels: List[Dict[str, Any]] = []
        y = 0
        for row in self.rows:
            place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
            panels.append({"id": len(panels) + 1, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []})
            x, y = 0, y + 1
            for panel in row.panels:
                if x + panel.width > COLUMNS:
                    x, y = 0, y + HEIGHT
                panels.append(panel.json(len(panels) + 1, x, y))
                x += panel.width
            y += HEIGHT
        return {
            "uid": f"aegis-{self.name}",
            "title": f"Aegis / {self.title}",
            "description": self.about,
            "tags": ["aegis"],
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "schemaVersion": 39,
            "time": {"from": "now-3h", "to": "now"},
            "links": [{"type": "dashboards", "title": "Aegis", "tags": ["aegis"], "asDropdown": True, "keepTime": True, "includeVars": True}],
            "templating": {"list": [*COMMON, *self.variables]},
            "panels": panels,
        }


def choice(name: str, label: str, query: str, **more: Any) -> Dict[str, Any]:
    """A variable that is chosen among what a query finds; all of it unless it is said otherwise."""
    every = {"includeAll": True, "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    one = {"includeAll": False, "multi": False}
    kind = one if more.pop("one", False) else every
    return {"type": "query", "name": name, "label": label, "datasource": SOURCE, "query": query, "refresh": 2, "sort": 1, **kind, **more}


COMMON = [
    {"type": "datasource", "name": "source", "label": "Prometheus", "query": "prometheus", "refresh": 1},
    choice("namespace", "Namespace", "label_values(aegis_proxy_config_generation, namespace)"),
    choice("release", "Release", 'label_values(aegis_proxy_config_generation{namespace=~"$namespace"}, release)'),
    choice("model", "Model", f"label_values(aegis_proxy_split_weight{{{NS}}}, model)"),
]


def rate(metric: str, which: str, by: str = "", over: str = "$__rate_interval") -> str:
    """The sum of a counter's rates."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{which}}}[{over}]))"


def quantile(part: float, metric: str, which: str, by: str = "") -> str:
    """A quantile of what is summed first."""
    return f"histogram_quantile({part}, {rate(metric + '_bucket', which, ', '.join(filter(None, [by, 'le'])))})"


def mean(metric: str, which: str, by: str = "") -> str:
    return f"{rate(metric + '_sum', which, by)} / {rate(metric + '_count', which, by)}"


def within(seconds: str, metric: str, which: str) -> str:
    """The part of the requests that took at most so long, which is a bound of the buckets."""
    bucket = rate(metric + "_bucket", which + f',le="{seconds}"')
    return f"{bucket} / {rate(metric + '_count', which)}"


def service() -> Dashboard:
    requests, duration = "aegis_proxy_requests_total", "aegis_proxy_request_duration_seconds"
    # For which no endpoint was left: the proxies count them apart, and by no model.
    refused = f'increase(aegis_proxy_rejected_total{{{NS},reason="no_endpoint"}}[$__range])'
    bad = f'sum(increase({requests}{{{MODEL},code=~"5.."}}[$__range]) or {refused})'
    all_of_them = f"sum(increase({requests}{{{MODEL}}}[$__range]) or {refused})"
    burn = [(f'max(release:aegis_errors:ratio_rate{over}{{{NS}}}) / 0.005', f"over {over}") for over in ("5m", "1h", "6h")]
    return Dashboard(
        "service",
        "Service",
        "Is the objective met, how fast is the error budget burnt, and who answers?",
        [
            Row("The objective: 99.5 % answered, half within 0.2 s, 99 % within 1.5 s", [
                Panel("Answered", "Requests that were not answered with 5xx, over the chosen time. Those for which no endpoint was left are counted of all models.", [(f"1 - {bad} / {all_of_them}", "")], "percentunit", "stat", 6),
                Panel("Error budget left", "What is left of the 0.5 % that may fail, over the chosen time; below 0 it is overdrawn. Counted as beside.", [(f"1 - {bad} / {all_of_them} / 0.005", "")], "percentunit", "stat", 6, most=1),
                Panel("Within 0.2 s", "Requests that were answered within 0.2 s.", [(within("0.2", duration, MODEL), "")], "percentunit", "stat", 6),
                Panel("Within 1.5 s", "Requests that were answered within 1.5 s.", [(within("1.5", duration, MODEL), "")], "percentunit", "stat", 6),
                Panel("Burn rate", "1 spends the budget of a month in a month. Over 14.4 in the last hour pages, over 6 in the last six is a ticket. Of all models of a namespace.", burn, "short", width=12, steps=[("orange", 6), ("red", 14.4)]),
                Panel("Latency", "From a request's first byte to its answer's last, as clients see it.", [(quantile(part, duration, MODEL), name) for part, name in ((0.5, "median"), (0.95, "95th percentile"), (0.99, "99th percentile"))], "s", width=12, steps=[("orange", 0.2), ("red", 1.5)]),
            ]),
            Row("Traffic", [
                Panel("By version", "Requests a second, by the version that answered.", [(rate(requests, MODEL, "model, model_version"), "{{model}} {{model_version}}")], "reqps", stacked=True),
                Panel("By route", "How the version was chosen.", [(rate(requests, MODEL, "kind"), "{{kind}}")], "reqps", stacked=True),
                Panel("By status", "What clients got; 499 left before their answer.", [(rate(requests, MODEL, "code"), "{{code}}")], "reqps", stacked=True),
                Panel("Fallbacks", "Requests that another version answered than the one that was chosen.", [(rate("aegis_proxy_fallbacks_total", MODEL, "model, from, to, reason"), "{{model}} {{from}} → {{to}}: {{reason}}")], "reqps"),
                Panel("Retries", "Attempts that failed, and whether another one was made.", [(rate("aegis_proxy_retries_total", MODEL, "reason, result"), "{{reason}}: {{result}}")], "reqps"),
                Panel("Refused by the proxy", "Errors of the proxy's own; no_endpoint is the service's fault.", [(rate("aegis_proxy_rejected_total", NS, "reason"), "{{reason}}")], "reqps"),
            ]),
            Row("The proxies", [
                Panel("In flight and waiting", "Requests that are served, and those that wait because every endpoint is full.", [(f"sum(aegis_proxy_in_flight{{{NS}}})", "in flight"), (f"sum(aegis_proxy_queued{{{MODEL}}})", "waiting")]),
                Panel("Connections", "Open connections of clients.", [(f"sum by (pod) (aegis_proxy_connections{{{NS}}})", "{{pod}}")]),
                Panel("Configuration", "The number of the running configuration of each proxy: they differ for the minute that Kubernetes takes, and not for longer.", [(f"aegis_proxy_config_generation{{{NS}}}", "{{pod}}")]),
                Panel("Readings of the configuration", "A refused file changes nothing; the proxies' logs list its faults.", [(f"sum by (result) (increase(aegis_proxy_config_reloads_total{{{NS}}}[$__rate_interval]))", "{{result}}")]),
                Panel("Pods that discovery knows", "As Kubernetes sees them, by the proxy that knows fewest.", [(f"min by (service, state) (aegis_proxy_kubernetes_pods{{{NS}}})", "{{service}} {{state}}")]),
                Panel("Discovery is behind", "For how long the Kubernetes API has not told; the last known pods serve on.", [(f"max by (pod) (aegis_proxy_kubernetes_stale_seconds{{{NS}}})", "{{pod}}")], "s", steps=[("red", 300)]),
                Panel("Names that are not resolved", "With discovery by DNS. Their last known addresses serve on.", [(f"sum by (pod) (aegis_proxy_dns_names_failing{{{NS}}})", "{{pod}}")]),
                Panel("Lines and spans that were lost", "Of the access log and of traces.", [(rate("aegis_proxy_access_log_dropped_total", NS, "reason"), "log: {{reason}}"), (rate("aegis_proxy_trace_spans_total", NS + ',result!="exported"', "result"), "span: {{result}}")]),
            ]),
        ],
    )  # fmt: skip


def side(name: str, variable: str) -> List[Panel]:
    """What is shown of one version; the same of both, so that they lie side by side."""
    which = f'{MODEL},model_version="${variable}"'
    pod = f'{POD},model_version="${variable}"'
    first_byte = "aegis_proxy_time_to_first_byte_seconds"
    title = f"{name} ${variable}: "
    return [
        Panel(title + "part of the traffic", "Of the requests that were drawn by weight or by the client's key; and what is configured.", [
            (f'{rate("aegis_proxy_requests_total", which + _DRAWN)} / {rate("aegis_proxy_requests_total", MODEL + _DRAWN)}', "answered"),
            (f"max(aegis_proxy_split_weight{{{which}}}) / sum(max by (model, model_version) (aegis_proxy_split_weight{{{MODEL}}}))", "configured"),
        ], "percentunit", width=12),
        Panel(title + "failures", "Answers of 5xx, and requests that failed here and were answered by another version.", [(f"max(model_version:aegis_errors:ratio_rate10m{{{which}}})", "over 10 minutes")], "percentunit", width=12),
        Panel(title + "time to the first byte", "As clients see it, all attempts together.", [(quantile(part, first_byte, which), label) for part, label in ((0.5, "median"), (0.95, "95th percentile"), (0.99, "99th percentile"))], "s", width=12),
        Panel(title + "endpoints that serve", "Ready, and not tripped.", [(f"avg(aegis_proxy_version_available_ratio{{{which}}})", "available"), (f"avg(aegis_model_loaded{{{pod.replace(_VIA, '')}}})", "pods with the model loaded")], "percentunit", width=12),
        Panel(title + "breakers that opened", "By the rule that opened them.", [(f'sum by (reason) (increase(aegis_proxy_breaker_transitions_total{{{which},to="open"}}[$__rate_interval]))', "{{reason}}")], width=12),
        Panel(title + "time in the model", "Of a batch, and of one row of it.", [(mean("aegis_inference_batch_seconds", pod.replace(_VIA, "")), "a batch"), (f'{rate("aegis_inference_batch_seconds_sum", pod.replace(_VIA, ""))} / {rate("aegis_inference_batch_size_sum", pod.replace(_VIA, ""))}', "a row")], "s", width=12),
        Panel(title + "safety flags", "Requests that a check objected to.", [(f'{rate("aegis_safety_flags_total", pod.replace(_VIA, ""))} / {rate("aegis_inference_requests_total", pod)}', "flagged")], "percentunit", width=12),
    ]  # fmt: skip


_DRAWN = ',kind=~"split|sticky"'
_VIA = 'via="",'


def release() -> Dashboard:
    pairs = zip(side("Stable", "stable"), side("Canary", "canary"))
    versions = f'label_values(aegis_proxy_split_weight{{{MODEL}}}, model_version)'
    return Dashboard(
        "release",
        "Release",
        "Is the canary as good as what is there? Stable on the left, canary on the right, on the same scale of time.",
        [Row("Side by side", [panel for pair in pairs for panel in pair])],
        [choice("stable", "Stable", versions, one=True), choice("canary", "Canary", versions, one=True, sort=2)],
    )


def breakers() -> Dashboard:
    state = {0: ("closed", "green"), 1: ("half-open", "yellow"), 2: ("open", "red")}
    ready = {0: ("not ready", "red"), 1: ("ready", "green")}
    legend = "{{model}} {{model_version}} {{endpoint}}"
    labels = "model, model_version, endpoint"
    return Dashboard(
        "breakers",
        "Breakers",
        "Which endpoint was out, when, and why?",
        [
            Row("States", [
                Panel("Breakers", "The worst that any proxy says; each proxy judges for itself.", [(f"max by ({labels}) (aegis_proxy_breaker_state{{{MODEL}}})", legend)], kind="state-timeline", width=24, words=state),
                Panel("Active checks", "Whether the endpoint says that it is ready.", [(f"min by ({labels}) (aegis_proxy_endpoint_healthy{{{MODEL}}})", legend)], kind="state-timeline", width=24, words=ready),
            ]),
            Row("Reasons", [
                Panel("Opened, by rule", "What opened breakers.", [(f'sum by (reason) (increase(aegis_proxy_breaker_transitions_total{{{MODEL},to="open"}}[$__rate_interval]))', "{{reason}}")], stacked=True),
                Panel("Moves", "By the new state: as many should close as open.", [(f"sum by (to) (increase(aegis_proxy_breaker_transitions_total{{{MODEL}}}[$__rate_interval]))", "{{to}}")]),
                Panel("Available", "Part of each version's endpoints that is ready and not tripped.", [(f"avg by (model, model_version) (aegis_proxy_version_available_ratio{{{MODEL}}})", "{{model}} {{model_version}}")], "percentunit"),
                Panel("Failed attempts", "Before a byte of the answer had gone out, by what went wrong.", [(rate("aegis_proxy_retries_total", MODEL, "reason"), "{{reason}}")], "reqps", width=12),
                Panel("What came of them", "made: tried elsewhere. no_budget: so much fails that retries would only add load.", [(rate("aegis_proxy_retries_total", MODEL, "result"), "{{result}}")], "reqps", width=12),
            ]),
        ],
    )  # fmt: skip


def batching() -> Dashboard:
    pod = MODEL
    version = "{{model}} {{model_version}}"
    return Dashboard(
        "batching",
        "Batching",
        "Do requests wait, how large are batches, what does one cost, what was refused?",
        [
            Row("The queue", [
                Panel("Depth", "Requests that are accepted and not yet running, for each pod.", [(f"sum by (pod) (aegis_inference_queue_depth{{{POD}}})", "{{pod}}")], steps=[("orange", 32)]),
                Panel("Wait", "Time in the queue.", [(quantile(part, "aegis_inference_queue_seconds", pod), name) for part, name in ((0.5, "median"), (0.95, "95th percentile"))], "s"),
                Panel("Waited longer than max_latency_ms", "Since every instance was busy: the pod is saturated.", [(rate("aegis_inference_over_max_wait_total", pod, "model, model_version"), version)], "reqps"),
            ]),
            Row("Batches", [
                Panel("Rows of a batch", "On average.", [(mean("aegis_inference_batch_size", pod, "model, model_version"), version)]),
                Panel("Sizes", "How many batches had how many rows.", [(rate("aegis_inference_batch_size_bucket", pod, "le"), "{{le}}")], kind="heatmap"),
                Panel("Time of a batch", "In the model.", [(quantile(part, "aegis_inference_batch_seconds", pod), name) for part, name in ((0.5, "median"), (0.95, "95th percentile"))], "s"),
                Panel("α: what a row costs", "As learned: a batch of b rows takes α · b + β.", [(f'avg by (model, model_version) (aegis_inference_batch_cost_seconds{{{pod},term="alpha"}})', version)], "s"),
                Panel("β: what a batch costs, however small", "Where β is large beside α, larger batches gain much.", [(f'avg by (model, model_version) (aegis_inference_batch_cost_seconds{{{pod},term="beta"}})', version)], "s"),
                Panel("Busy instances", "For each pod. As many as there are instances: no more can be done.", [(rate("aegis_instance_busy_seconds_total", pod, "pod"), "{{pod}}")]),
            ]),
            Row("What came of it", [
                Panel("Goodput", "Requests that were answered well, and those of all answers that came within 1.5 s.", [(rate("aegis_inference_requests_total", POD + ',code="200"'), "answered well"), (rate("aegis_inference_latency_seconds_bucket", POD + ',le="1.5"'), "within 1.5 s"), (rate("aegis_inference_requests_total", POD), "asked for")], "reqps"),
                Panel("Refused", "By the backends, by reason.", [(rate("aegis_inference_rejected_total", NS, "reason"), "{{reason}}")], "reqps"),
                Panel("Latency in the pod", "From the end of a request's head to its answer.", [(quantile(part, "aegis_inference_latency_seconds", POD), name) for part, name in ((0.5, "median"), (0.95, "95th percentile"), (0.99, "99th percentile"))], "s"),
                Panel("Batches that failed", "And were run again request by request, so that only the culprit fails.", [(rate("aegis_inference_batches_split_total", pod, "model, model_version"), version)], "ops"),
                Panel("Hung and tested instances", "Given up after run_timeout_ms; and runs of zeros after three failures.", [(f"sum(increase(aegis_instance_hung_total{{{pod}}}[$__rate_interval]))", "hung"), (f"sum by (outcome) (increase(aegis_instance_tests_total{{{pod}}}[$__rate_interval]))", "test: {{outcome}}")]),
                Panel("Connections", "Open to each pod; and how often accepting paused.", [(f"sum by (pod) (aegis_http_connections{{{NS}}})", "{{pod}}"), (f"sum(increase(aegis_http_accept_paused_total{{{NS}}}[$__rate_interval]))", "paused")]),
            ]),
        ],
    )  # fmt: skip


def safety() -> Dashboard:
    flags = "aegis_safety_flags_total"
    return Dashboard(
        "safety",
        "Safety",
        "What did the checks object to, and what was done?",
        [
            Row("Flags", [
                Panel("Flagged", "Part of the requests that a check objected to, beside what it was over the last day; three times that is an alert.", [(f"max by (model) (model:aegis_safety_flags:ratio_rate10m{{{MODEL}}})", "{{model}}"), (f"max by (model) (avg_over_time(model:aegis_safety_flags:ratio_rate10m{{{MODEL}}}[1d] offset 1h))", "{{model}}, last day")], "percentunit", width=12),
                Panel("By check", "A check of a request or of an answer.", [(rate(flags, MODEL, "reason"), "{{reason}}")], "reqps", width=12, stacked=True),
                Panel("By what was done", "block: refused. flag: answered, and said so. log: answered.", [(rate(flags, MODEL, "action"), "{{action}}")], "reqps", width=12, stacked=True),
                Panel("By version", "A new version that is flagged more often sees other inputs, or gives other answers.", [(rate(flags, MODEL, "model, model_version"), "{{model}} {{model_version}}")], "reqps", width=12),
            ]),
            Row("Models", [
                Panel("Loaded", "Whole, warm and verified, on each pod.", [(f"min by (model, model_version, pod) (aegis_model_loaded{{{MODEL}}})", "{{model}} {{model_version}} {{pod}}")], kind="state-timeline", width=12, words={0: ("not loaded", "red"), 1: ("loaded", "green")}),
                Panel("Verifications", "Whether a version was as a trusted key signed it, when it was loaded.", [(f"sum by (outcome) (aegis_model_verifications_total{{{NS}}})", "{{outcome}}")], kind="stat", width=6),
                Panel("Loads and unloads at run time", "Where model_control allows them.", [(f"sum by (action, result) (increase(aegis_model_control_total{{{NS}}}[$__rate_interval]))", "{{action}}: {{result}}")], width=6),
            ]),
        ],
    )  # fmt: skip


def files() -> Dict[str, str]:
    """The text of each file, by its name."""
    made = [service(), release(), breakers(), batching(), safety()]
    return {f"{it.name}.json": json.dumps(it.json(), indent=2, ensure_ascii=False) + "\n" for it in made}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text)
