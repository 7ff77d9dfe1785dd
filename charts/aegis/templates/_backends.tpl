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
{{- /* A tag of its own is not overruled by the digest that the others share. */}}
{{- with $own.image -}}
{{- if and .tag (not .digest) -}}
{{- $_ := unset $backend.image "digest" -}}
{{- end -}}
{{- end -}}
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
{{- $_ := set $backend "nodeSelector" (merge (deepCopy ($backend.nodeSelector | default dict)) ($backend.gpu.nodeSelector | default dict)) -}}
{{- $_ := set $backend "tolerations" (concat ($backend.tolerations | default list) $backend.gpu.tolerations) -}}
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

{{/*
The memory that a pod asks for, in MiB: 256 for the program and libtorch, what may wait in its queue, and the weights as
often as they are there while it loads: once for each instance, and once in the sealed memory that they are verified in.
The README says how this was measured. Takes a backend.
*/}}
{{- define "aegis.backend.memory" -}}
{{- $copies := add .memory.instances (and (eq .config.verify "off") (not .source) | ternary 0 1) -}}
{{- $queue := divf (.config.max_queue_bytes | default 268435456) 1048576 | ceil | int64 -}}
{{- add 256 $queue (mul $copies .memory.modelMiB) -}}
{{- end -}}

{{/* What a pod asks for, with its memory and its GPUs. Takes a backend. */}}
{{- define "aegis.backend.resources" -}}
{{- $resources := deepCopy (.resources | default dict) -}}
{{- $memory := include "aegis.backend.memory" . | int64 -}}
{{- range $kind, $more := dict "requests" 0 "limits" 1536 -}}
{{- $some := get $resources $kind | default dict -}}
{{- if not (hasKey $some "memory") -}}
{{- $_ := set $some "memory" (printf "%dMi" (add $memory $more)) -}}
{{- else if empty $some.memory -}}
{{- $_ := unset $some "memory" -}}
{{- end -}}
{{- $_ := set $resources $kind $some -}}
{{- end -}}
{{- if .gpu.enabled -}}
{{- $limits := merge (dict .gpu.resource (int .gpu.count)) ($resources.limits | default dict) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}
