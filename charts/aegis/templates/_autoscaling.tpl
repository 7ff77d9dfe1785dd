{{/*
When pods are added and taken away. HPA and KEDA share how fast; what they look at is the same, asked for
in two ways.
*/}}

{{/* Up at once, by half again or two pods in half a minute; down late and slowly. Takes a dict: after, pods. */}}
{{- define "aegis.autoscaling.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - {type: Percent, value: 50, periodSeconds: 30}
    - {type: Pods, value: 2, periodSeconds: 30}
scaleDown:
  stabilizationWindowSeconds: {{ .after }}
  selectPolicy: Max
  policies:
    - {type: Pods, value: {{ .pods }}, periodSeconds: 60}
{{- end -}}

{{/* The CPU of one container, so that a mesh's sidecar does not count. Takes a dict: container, target. */}}
{{- define "aegis.autoscaling.cpu" -}}
- type: ContainerResource
  containerResource:
    name: cpu
    container: {{ .container }}
    target: {type: AverageValue, averageValue: {{ quote .target }}}
{{- end -}}

{{/*
What a backend is held to, as a JSON object: name → target, without what is left out. A GPU's pods do not
show their load by the CPU, and a CPU's show it better by that than by busy instances.
*/}}
{{- define "aegis.autoscaling.targets" -}}
{{- $targets := dict -}}
{{- $leftOut := .gpu.enabled | ternary "cpu" "busyInstances" -}}
{{- range $name, $target := .autoscaling.targets -}}
{{- if and $target (ne $name $leftOut) -}}
{{- $_ := set $targets $name $target -}}
{{- end -}}
{{- end -}}
{{- toJson $targets -}}
{{- end -}}

{{/* A number as a Kubernetes quantity, in thousandths. */}}
{{- define "aegis.quantity" -}}
{{- printf "%dm" (mulf . 1000 | ceil | int64) -}}
{{- end -}}

{{/*
What is asked of Prometheus for a version, as a JSON object: target → query. Rates are summed before anything is
divided or a quantile taken, so that a pod counts by what it did. `via=""` leaves out what the proxies report under
the same names. Takes a dict: root, backend.
*/}}
{{- define "aegis.autoscaling.queries" -}}
{{- $own := printf "%s,model=%q,model_version=%q" (include "aegis.series" .root) .backend.model .backend.version -}}
{{- $which := printf "via=\"\",%s" $own -}}
{{- $buckets := printf "sum by (le) (rate(aegis_inference_latency_seconds_bucket{%s}[2m]))" $which -}}
{{- dict
  "queueDepth" (printf "sum(avg_over_time(aegis_inference_queue_depth{%s}[1m]))" $which)
  "p95Seconds" (printf "(histogram_quantile(0.95, %s) >= 0) or 0 * sum(rate(aegis_inference_latency_seconds_count{%s}[2m]))" $buckets $which)
  "requestsPerSecond" (printf "sum(rate(aegis_inference_requests_total{%s}[2m]))" $which)
  "busyInstances" (printf "sum(rate(aegis_instance_busy_seconds_total{%s}[2m]))" $own)
| toJson -}}
{{- end -}}

{{/*
The line `replicas:` of a Deployment. With an autoscaler it is the number that runs: were it left out of what
Kubernetes has been given before, the Deployment would fall to one pod until the autoscaler looks again. Where
nothing can be looked up (`helm template`, GitOps) it is left out, as such tools want it.
Takes a dict: root, settings, name.
*/}}
{{- define "aegis.replicas" -}}
{{- if eq .settings.autoscaling.by "off" -}}
replicas: {{ .settings.replicas }}
{{- else -}}
{{- with lookup "apps/v1" "Deployment" .root.Release.Namespace .name -}}
replicas: {{ .spec.replicas }}
{{- end -}}
{{- end -}}
{{- end -}}
