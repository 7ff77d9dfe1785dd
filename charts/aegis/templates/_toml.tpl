{{/*
TOML from values.

A string, a number, a truth value or a list of them is written the same in TOML and in JSON, so
`toJson` writes them; Helm's own `toToml` would turn each whole number into a float. Keys are quoted
where a user chooses them.
*/}}

{{/* The plain keys of a table, one a line; tables in it are left out. */}}
{{- define "aegis.toml.keys" -}}
{{- range $key, $value := . }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- end -}}

{{/* proxy.toml outside [models]: what needs a restart. */}}
{{- define "aegis.proxy.static" -}}
{{- $proxy := .Values.proxy -}}
# Written by Helm; edit the release's values instead.
{{- include "aegis.toml.keys" $proxy.config }}

[listen]
data = {{ printf "%s:%v" .Values.bindAddress $proxy.ports.data | toJson }}
admin = {{ printf "%s:%v" .Values.bindAddress $proxy.ports.admin | toJson }}
{{- range $name, $table := $proxy.config }}
{{- if kindIs "map" $table }}

[{{ $name }}]
{{- include "aegis.toml.keys" $table }}
{{- end }}
{{- end }}
{{- end -}}

{{/* [models] of proxy.toml: what the proxy takes while it runs. */}}
{{- define "aegis.proxy.models" -}}
{{- $root := . -}}
{{- range $name, $model := .Values.models }}
{{- $table := printf "models.%s" (toJson $name) }}

[{{ $table }}]
{{- include "aegis.toml.keys" (omit $model "versions") }}
{{- range $key, $value := omit $model "versions" }}
{{- if kindIs "map" $value }}

[{{ $table }}.{{ $key }}]
{{- include "aegis.toml.keys" $value }}
{{- end }}
{{- end }}
{{- range $backend := include "aegis.backends" $root | fromJsonArray }}
{{- if eq $backend.model $name }}

[{{ $table }}.versions.{{ toJson $backend.version }}]
weight = {{ toJson $backend.weight }}
{{ include "aegis.backend.found" (dict "root" $root "backend" $backend) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* How the proxy finds a version's pods. Takes a dict: root, backend. */}}
{{- define "aegis.backend.found" -}}
{{- if eq .root.Values.discovery "kubernetes" -}}
kubernetes = { service = {{ toJson .backend.fullname }}, namespace = {{ toJson .root.Release.Namespace }}, port = "http" }
{{- else -}}
endpoints = [{{ include "aegis.backend.endpoint" . | toJson }}]
{{- end -}}
{{- end -}}

{{/*
Where a version is reached by DNS: its Service's name, which stands for its pods, and the port. The dot says that the
name is complete, so that no search domain is tried before. Takes a dict: root, backend.
*/}}
{{- define "aegis.backend.endpoint" -}}
{{- printf "%s.%s.svc.%s.:%v" .backend.fullname .root.Release.Namespace .root.Values.clusterDomain .backend.port -}}
{{- end -}}

{{/* backend.toml of one version. Takes a dict: root, backend. */}}
{{- define "aegis.backend.toml" -}}
# Written by Helm; edit the release's values instead.
listen = {{ printf "%s:%v" .root.Values.bindAddress .backend.port | toJson }}
model_repository = {{ toJson .backend.modelRepository.mountPath }}
{{- $keys := include "aegis.backend.trustedKeys" .backend | fromJsonArray }}
{{- with $keys }}
trusted_keys = {{ toJson . }}
{{- end }}
{{- if .backend.source }}
model_cache = {{ include "aegis.backend.cache" .root | toJson }}
{{- end }}
{{- include "aegis.toml.keys" .backend.config }}

[models.{{ toJson .backend.model }}]
versions = [{{ toJson .backend.version }}]
{{- with .backend.source }}

[models.{{ toJson $.backend.model }}.sources.{{ toJson $.backend.version }}]
from = {{ toJson .from }}
sha256 = {{ toJson .sha256 }}
{{- end }}
{{- end -}}
