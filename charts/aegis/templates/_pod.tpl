{{/* What the pods of both programs share. */}}

{{/* The pod's own security settings: those of the "restricted" Pod Security Standard. Takes the root. */}}
{{- define "aegis.podSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.podSecurityContext }}
{{ toYaml . }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "aegis.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* How long Kubernetes waits after SIGTERM: the program's own longest drain, and 5 s to exit in. */}}
{{- define "aegis.gracePeriod" -}}
{{- add 5 (ceil (divf . 1000)) -}}
{{- end -}}

{{/* How a Deployment changes: a new pod is ready, and known, before an old one goes. Takes the settings. */}}
{{- define "aegis.strategy" -}}
minReadySeconds: {{ .rollout.minReadySeconds }}
progressDeadlineSeconds: {{ .rollout.progressDeadlineSeconds }}
strategy:
  type: RollingUpdate
  rollingUpdate:
    maxSurge: {{ .rollout.maxSurge }}
    maxUnavailable: 0
{{- end -}}

{{/* Pods of one Deployment keep off each other's nodes and zones. Takes a dict: settings, selector. */}}
{{- define "aegis.spread" -}}
{{- range $where, $key := dict "host" "kubernetes.io/hostname" "zone" "topology.kubernetes.io/zone" }}
{{- with get $.settings.topologySpread $where }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: {{ . }}
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    matchLabels:
      {{- $.selector | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
Probes over HTTP. The first one gives a slow node two minutes to start the program, and then leaves the word to the
other two: alive, which does not ask for more than an answer, and ready. Both are patient with a program that is busy: one
that is overloaded and leaves its Service makes it worse for its peers. Takes a dict: port, live, ready.
*/}}
{{- define "aegis.probes" -}}
startupProbe:
  httpGet: {path: {{ .live }}, port: {{ .port }}}
  periodSeconds: 1
  timeoutSeconds: 1
  failureThreshold: 120
livenessProbe:
  httpGet: {path: {{ .live }}, port: {{ .port }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: {{ .ready }}, port: {{ .port }}}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{/* Where pods may run, in which order, and how they are pulled. Takes a dict: root, settings. */}}
{{- define "aegis.placement" -}}
{{- $spread := include "aegis.spread" . }}
{{- with trim $spread }}
topologySpreadConstraints:
  {{- . | nindent 2 }}
{{- end }}
{{- with .settings.priorityClassName }}
priorityClassName: {{ quote . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* An image's reference. */}}
{{- define "aegis.image" -}}
{{- not (empty .digest) | ternary (printf "%s@%s" .repository .digest) (printf "%s:%s" .repository (toString .tag)) | quote -}}
{{- end -}}

{{/* A PodDisruptionBudget's body. Takes a dict: budget, selector. */}}
{{- define "aegis.budget" -}}
maxUnavailable: {{ .budget.maxUnavailable }}
# A pod that serves nothing does not hold a node's drain up.
unhealthyPodEvictionPolicy: AlwaysAllow
selector:
  matchLabels:
    {{- .selector | nindent 4 }}
{{- end -}}
