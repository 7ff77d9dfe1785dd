{{/* Names and labels. */}}

{{/* What every object's name begins with: short enough that "-proxy" after it is still the name of a Service. */}}
{{- define "aegis.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 57 | trimSuffix "-" -}}
{{- else -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 57 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 57 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What tells this release's pods of a component apart; never changes. Takes a dict: root, component. */}}
{{- define "aegis.selector" -}}
app.kubernetes.io/name: {{ .root.Values.nameOverride | default .root.Chart.Name | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The labels of an object. Takes a dict: root, component. */}}
{{- define "aegis.labels" -}}
{{ include "aegis.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: aegis
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{/* The service account of a component. Takes a dict: root, component. */}}
{{- define "aegis.serviceAccountName" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.name -}}
{{- $account.name -}}
{{- else if $account.create -}}
{{- printf "%s-%s" (include "aegis.fullname" .root) .component -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* The labels of one version's objects, and what selects its pods: takes a dict: root, backend. */}}
{{- define "aegis.backend.selector" -}}
{{ include "aegis.selector" (dict "root" .root "component" "backend") }}
aegis-backend: {{ .backend.slug | quote }}
{{- end -}}

{{- define "aegis.backend.labels" -}}
{{ include "aegis.labels" (dict "root" .root "component" "backend") }}
aegis-backend: {{ .backend.slug | quote }}
{{- end -}}

{{/*
What tells this release's series apart in Prometheus, as the PodMonitors label them. Takes the root.
*/}}
{{- define "aegis.series" -}}
{{- printf "namespace=%q,release=%q" .Release.Namespace .Release.Name -}}
{{- end -}}
