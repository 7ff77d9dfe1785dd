{{/*
The model versions as a flat list, as JSON: the settings of `backend` with the version's own over
them, and `model`, `version`, `slug` (the end of the objects' names) and `fullname`.

A volume is replaced and not merged: a pod's volume has exactly one source.
*/}}
{{- define "aegis.backends" -}}
{{- $root := . -}}
{{- $list := list -}}
{{- range $model, $settings := .Values.models -}}
{{- range $version, $own := $settings.versions -}}
{{- $own = $own | default dict -}}
{{- $backend := mergeOverwrite (deepCopy $root.Values.backend) (deepCopy $own) -}}
{{- with $own.modelRepository -}}
{{- if .volume -}}
{{- $_ := set $backend.modelRepository "volume" .volume -}}
{{- end -}}
{{- end -}}
{{- with $own.trustedKeys -}}
{{- if .volume -}}
{{- $_ := set $backend.trustedKeys "volume" .volume -}}
{{- end -}}
{{- end -}}
{{- with ($own.modelCache | default dict).volume -}}
{{- $_ := set $backend.modelCache "volume" . -}}
{{- end -}}
{{- if $backend.gpu.enabled -}}
{{- $_ := set $backend "nodeSelector" (merge (deepCopy $backend.nodeSelector) $backend.gpu.nodeSelector) -}}
{{- $_ := set $backend "tolerations" (concat $backend.tolerations $backend.gpu.tolerations) -}}
{{- $_ := set $backend "runtimeClassName" $backend.gpu.runtimeClassName -}}
{{- end -}}
{{- $made := printf "%s-%s" $model $version | lower | replace "." "-" | replace "_" "-" | trimAll "-" -}}
{{- $slug := $own.name | default $made -}}
{{- $_ := set $backend "model" $model -}}
{{- $_ := set $backend "version" $version -}}
{{- $_ := set $backend "slug" $slug -}}
{{- $_ := set $backend "fullname" (printf "%s-%s" (include "aegis.fullname" $root) $slug) -}}
{{- $list = append $list $backend -}}
{{- end -}}
{{- end -}}
{{- $list | toJson -}}
{{- end -}}

{{/* Where the keys are that a pod trusts, as a JSON list of paths. Takes a backend. */}}
{{- define "aegis.backend.trustedKeys" -}}
{{- $paths := list -}}
{{- range $name, $key := .trustedKeys.files -}}
{{- $paths = append $paths (printf "/etc/aegis/%s" $name) -}}
{{- end -}}
{{- range .trustedKeys.names -}}
{{- $paths = append $paths (printf "/etc/aegis-keys/%s" .) -}}
{{- end -}}
{{- toJson $paths -}}
{{- end -}}

{{/* Where archives are kept. */}}
{{- define "aegis.backend.cache" -}}
/var/cache/aegis
{{- end -}}

{{/* What a pod asks for, with its GPUs. Takes a backend. */}}
{{- define "aegis.backend.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if .gpu.enabled -}}
{{- $limits := merge (dict .gpu.resource (int .gpu.count)) ($resources.limits | default dict) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}
