{{/* What the pods of both programs share. */}}

{{/* The pod's own security settings: those of the "restricted" Pod Security Standard. */}}
{{- define "aegis.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
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

{{/* A new pod is ready before an old one goes. */}}
{{- define "aegis.strategy" -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: 1
  maxUnavailable: 0
{{- end -}}

{{/* Pods of one Deployment keep off each other's nodes where they can. Takes the selecting labels. */}}
{{- define "aegis.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    matchLabels:
      {{- . | nindent 6 }}
{{- end -}}

{{/* Liveness and readiness over HTTP. Takes a dict: port, live, ready. */}}
{{- define "aegis.probes" -}}
livenessProbe:
  httpGet: {path: {{ .live }}, port: {{ .port }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: {{ .ready }}, port: {{ .port }}}
  periodSeconds: 2
  timeoutSeconds: 1
  failureThreshold: 2
{{- end -}}

{{/* Where pods may run, and how they are pulled. Takes a dict: root, settings. */}}
{{- define "aegis.placement" -}}
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
{{- printf "%s:%s" .repository (.tag | toString) | quote -}}
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
