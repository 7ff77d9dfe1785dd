"""Breaks the chart, a little each time, and runs the tests that should notice.

A mistake in a template renders all the same, and Kubernetes takes it: each of these would be found in production. Run by
`scripts/check_charts.sh --mutants`, which starts no program.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Optional

import support


class Mutant(NamedTuple):
    file: str
    old: str
    new: str
    tests: str


MUTANTS = [
    Mutant("templates/backend/service.yaml", "clusterIP: None", "type: ClusterIP", "test_configuration"),
    Mutant("templates/proxy/role.yaml", "[endpointslices]", "[endpointslices, secrets]", "test_objects"),
    Mutant("templates/proxy/role.yaml", 'include "aegis.serviceAccountName" $component', '"default"', "test_objects"),
    Mutant("templates/proxy/deployment.yaml", 'automountServiceAccountToken: {{ eq .Values.discovery "kubernetes" }}', "automountServiceAccountToken: true", "test_objects"),
    Mutant("templates/_toml.tpl", 'port = "http"', 'port = "data"', "test_configuration"),
    Mutant("templates/backend/service.yaml", "publishNotReadyAddresses: true", "publishNotReadyAddresses: false", "test_configuration"),
    Mutant("templates/_toml.tpl", "%s.%s.svc.%s.:%v", "%s.%s.svc.%s:%v", "test_configuration"),
    Mutant("templates/_toml.tpl", "weight = {{ toJson $backend.weight }}", "weight = 1", "test_configuration"),
    Mutant("templates/proxy/deployment.yaml", "mountPath: /etc/aegis, readOnly: true", "mountPath: /etc/aegis/proxy.toml, subPath: proxy.toml, readOnly: true", "test_configuration"),
    Mutant("templates/proxy/deployment.yaml", 'include "aegis.proxy.static" . | sha256sum', 'toJson .Values.models | sha256sum', "test_configuration"),
    Mutant("templates/backend/deployment.yaml", 'printf "%s%s" (include "aegis.backend.toml" $version) (toJson $backend.trustedKeys.files)', '"same"', "test_configuration"),
    Mutant("templates/_pod.tpl", "add 5 (ceil (divf . 1000))", "div . 1000", "test_configuration"),
    Mutant("templates/_pod.tpl", "periodSeconds: 2\n  timeoutSeconds: 5", "periodSeconds: 2\n  timeoutSeconds: 1", "test_configuration"),
    Mutant("values.yaml", " delay_ms: 10000", " delay_ms: 3000", "test_configuration"),
    Mutant("templates/NOTES.txt", ",app.kubernetes.io/component=proxy", "", "test_rules"),
    Mutant("values.yaml", "minReadySeconds: 15", "minReadySeconds: 10", "test_configuration"),
    Mutant("templates/_pod.tpl", "maxUnavailable: 0", "maxUnavailable: 1", "test_objects"),
    Mutant("templates/_pod.tpl", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "test_objects"),
    Mutant("templates/_pod.tpl", "runAsNonRoot: true", "runAsNonRoot: false", "test_objects"),
    Mutant("templates/_pod.tpl", "{{- $.selector | nindent 6 }}", "app.kubernetes.io/part-of: aegis", "test_objects"),
    Mutant("templates/_names.tpl", "aegis-backend: {{ .backend.slug | quote }}", "aegis-backend: {{ .backend.model | quote }}", "test_objects"),
    Mutant("templates/serviceaccounts.yaml", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "test_objects"),
    Mutant("templates/_backends.tpl", "(merge (deepCopy ($backend.nodeSelector | default dict)) ($backend.gpu.nodeSelector | default dict))", "$backend.nodeSelector", "test_objects"),
    Mutant("templates/_backends.tpl", "(dict .gpu.resource (int .gpu.count))", "dict", "test_objects"),
    Mutant("templates/monitoring/podmonitors.yaml", "podMetricsEndpoints:", "podMetricEndpoints:", "test_objects"),
    Mutant("templates/backend/autoscaler.yaml", "minReplicaCount", "minReplicas", "test_objects"),
    Mutant("templates/front/routes.yaml", "backendRefs", "backends", "test_objects"),
    Mutant("templates/front/routes.yaml", "kind: HTTPRoute", "kind: GRPCRoute", "test_objects"),
    Mutant("templates/front/routes.yaml", ".Values.proxy.service.grpcPort", ".Values.proxy.service.port", "test_front"),
    Mutant("templates/front/ingress.yaml", ' "/grpc.health.v1.Health"', "", "test_front"),
    Mutant("templates/_backends.tpl", '{{- $_ := unset $backend.image "digest" -}}', "", "test_objects"),
    Mutant("templates/_pod.tpl", '"%s@%s" .repository .digest', '"%s:%s" .repository .digest', "test_objects"),
    Mutant("templates/NOTES.txt", '(lt (int .Values.proxy.replicas) 2)', "false", "test_objects"),
    Mutant("templates/_names.tpl", "trunc 57", "trunc 63", "test_refusals"),
    Mutant("templates/_backends.tpl", "(add $memory $more)", "$memory", "test_objects"),
    Mutant("templates/_backends.tpl", "(mul $copies .memory.modelMiB)", ".memory.modelMiB", "test_objects"),
    Mutant("values.schema.json", '"$ref": "#/definitions/complete"', '"type": "object"', "test_refusals"),
    Mutant("templates/_names.tpl", "app.kubernetes.io/component: {{ .component }}", "app.kubernetes.io/component: aegis-{{ .component }}", "test_objects"),
    Mutant("templates/monitoring/podmonitors.yaml", "honorLabels: true", "honorLabels: false", "test_rules"),
    Mutant("templates/monitoring/prometheusrule.yaml", "$settings.queueDepth", "32", "test_rules"),
    Mutant("templates/_names.tpl", 'printf "namespace=%q,release=%q" .Release.Namespace .Release.Name', 'printf "namespace=%q" .Release.Namespace', "test_releases"),
    Mutant("templates/_names.tpl", 'printf "namespace=%q,release=%q" .Release.Namespace .Release.Name', 'printf "release=%q" .Release.Name', "test_releases"),
    Mutant("templates/monitoring/prometheusrule.yaml", "horizontalpodautoscaler=~%q", "horizontalpodautoscaler!~%q", "test_releases"),
    Mutant("templates/monitoring/podmonitors.yaml", "targetLabel: release", "targetLabel: instance", "test_releases"),
    Mutant("templates/backend/autoscaler.yaml", "matchLabels: {release: {{ quote $.Release.Name }}, ", "matchLabels: {", "test_releases"),
    Mutant("rules/aegis.rules.yaml", "sum by (namespace, release, model) (rate(aegis_proxy_retries_total", "sum by (namespace, model) (rate(aegis_proxy_retries_total", "test_releases"),
    Mutant("rules/aegis.rules.yaml", "14.4 * 0.005", "1.44 * 0.005", "test_rules"),
    Mutant("rules/aegis.rules.yaml", "\n          and release:aegis_requests:rate1h > 0.1", "", "test_rules"),
    Mutant("rules/aegis.rules.yaml", "(rate(aegis_proxy_request_duration_seconds_count[5m])) > 0.1", "(rate(aegis_proxy_request_duration_seconds_count[5m])) > 0", "test_rules"),
    Mutant("rules/aegis.rules.yaml", "and on (namespace, release, model, model_version) model_version:aegis_split_weight:max > 0", "", "test_rules"),
    Mutant("rules/aegis.rules.yaml", "aegis_proxy_breaker_state) > 0", "aegis_proxy_breaker_state) > 1", "test_rules"),
    Mutant("rules/aegis.rules.yaml", "and model_version:aegis_requests:rate10m > 0.05\n        for: 2m", "\n        for: 2m", "test_rules"),
    Mutant("rules/aegis.rules.yaml", 'reason="attempts_failed"', 'reason!=""', "test_rules"),
    Mutant("rules/aegis.rules.yaml", 'aegis_inference_queue_depth{via=""}', "aegis_inference_queue_depth", "test_queries"),
    Mutant("rules/aegis.rules.yaml", 'aegis_model_verifications_total{outcome!="verified"}', 'aegis_model_verification_total{outcome!="verified"}', "test_queries"),
    Mutant("adapter/rules.yaml", 'sum by (le) (rate(aegis_inference_latency_seconds_bucket', 'avg by (le) (rate(aegis_inference_latency_seconds_bucket', "test_queries"),
    Mutant("adapter/rules.yaml", "{as: aegis_instances_busy}", "{as: aegis_instance_busy}", "test_scaling"),
    Mutant("templates/_autoscaling.tpl", "container: {{ .container }}", "container: aegis", "test_scaling"),
    Mutant("templates/_autoscaling.tpl", "model_version=%q", "version=%q", "test_scaling"),
    Mutant("templates/_autoscaling.tpl", '.gpu.enabled | ternary "cpu" "busyInstances"', '"none"', "test_scaling"),
    Mutant("templates/backend/autoscaler.yaml", 'hpa-ownership: "true"', 'hpa-ownership: "false"', "test_scaling"),
    Mutant("templates/backend/autoscaler.yaml", '| ternary "Value" "AverageValue"', '| ternary "AverageValue" "AverageValue"', "test_scaling"),
    Mutant("templates/proxy/service.yaml", "appProtocol: kubernetes.io/h2c", "appProtocol: http", "test_front"),
    Mutant("templates/networkpolicies.yaml", "port: {{ $.Values.proxy.ports.admin }}", "port: 9901", "test_front"),
    Mutant("templates/networkpolicies.yaml", "{{- with $policy.monitoring }}\n    - ports: [{port", "{{- with list $policy }}\n    - ports: [{port", "test_front"),
    Mutant("templates/tests/loadtest.yaml", "helm.sh/hook: test", "helm.sh/hook: post-install", "test_front"),
    Mutant("values.yaml", "# The most pods of a version.", "# The most pods.", "test_readme"),
    Mutant("templates/_validate.tpl", "gt (int .minReplicas) (int .maxReplicas)", "gt (int .minReplicas) 1000", "test_refusals"),
    Mutant("templates/_validate.tpl", "if not (hasKey ($model.versions | default dict) .)", "if false", "test_refusals"),
    Mutant("values.schema.json", '"additionalProperties": false,\n      "required": [\n        "image",\n        "config"\n      ],', '"required": [\n        "image",\n        "config"\n      ],', "test_refusals"),
]  # fmt: skip


def survives(mutant: Mutant) -> Optional[str]:
    """What is wrong with the tests, by this mutant; nothing where one of them failed, as it should."""
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(folder) / "aegis"
        shutil.copytree(support.CHART, chart)
        text = (chart / mutant.file).read_text()
        if mutant.old not in text:
            return f"{mutant.file} has no {mutant.old!r} any more"
        (chart / mutant.file).write_text(text.replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "unittest", "--failfast", mutant.tests]
        environment = {**os.environ, "AEGIS_CHART": str(chart)}
        path = f"{environment['PYTHONPATH']}:{Path(__file__).parent}"
        environment["PYTHONPATH"] = path
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode == 0:
            return f"{mutant.tests} does not notice {mutant.old!r} → {mutant.new!r} in {mutant.file}"
        # A test that cannot run notices nothing.
        return f"{mutant.tests} does not run: {done.stdout}" if "Error: " in done.stdout and "FAIL" not in done.stdout else None


def main() -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = [fault for fault in pool.map(survives, MUTANTS) if fault]
    print("\n".join([*faults, f"{len(MUTANTS) - len(faults)} of {len(MUTANTS)} mutants were noticed"]))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
