{{/*
What a schema cannot say, in sentences: every fault of the values at once.
*/}}
{{- define "aegis.validate" -}}
{{- $faults := concat (include "aegis.faults.proxy" . | fromJsonArray) (include "aegis.faults.models" . | fromJsonArray) (include "aegis.faults.backends" . | fromJsonArray) -}}
{{- if $faults -}}
{{- fail (printf "\n\nThe values cannot be used:\n  - %s\n" (join "\n  - " $faults)) -}}
{{- end -}}
{{- end -}}

{{- define "aegis.faults.proxy" -}}
{{- $faults := list -}}
{{- $proxy := .Values.proxy -}}
{{- $front := include "aegis.fullname" . -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $front) -}}
{{- $faults = append $faults (printf "set fullnameOverride to lower-case letters, digits and -, a letter first: %q cannot begin the name of a Service" $front) -}}
{{- end -}}
{{- if not $proxy.image.repository -}}
{{- $faults = append $faults "set proxy.image.repository to where you pushed the image of aegis-proxy: none is published yet" -}}
{{- end -}}
{{- if not (or $proxy.image.tag $proxy.image.digest) -}}
{{- $faults = append $faults "set proxy.image.tag (or digest) to the version of the image of aegis-proxy" -}}
{{- end -}}
{{- if eq (int $proxy.ports.data) (int $proxy.ports.admin) -}}
{{- $faults = append $faults (printf "give proxy.ports.data and proxy.ports.admin two ports: both are %v" $proxy.ports.data) -}}
{{- end -}}
{{- with $proxy.config.drain -}}
{{- if gt (int .delay_ms) (int .grace_ms) -}}
{{- $faults = append $faults (printf "keep proxy.config.drain.delay_ms (%v) at or under grace_ms (%v): the delay is part of the drain" .delay_ms .grace_ms) -}}
{{- end -}}
{{- end -}}
{{- with $proxy.service -}}
{{- if and .externalTrafficPolicy (eq .type "ClusterIP") -}}
{{- $faults = append $faults "leave proxy.service.externalTrafficPolicy empty with type ClusterIP: nothing comes from outside" -}}
{{- end -}}
{{- if and (or .loadBalancerClass .loadBalancerSourceRanges) (ne .type "LoadBalancer") -}}
{{- $faults = append $faults (printf "leave loadBalancerClass and loadBalancerSourceRanges of proxy.service empty with type %s: there is no load balancer" .type) -}}
{{- end -}}
{{- end -}}
{{- if eq (int $proxy.service.port) (int $proxy.service.grpcPort) -}}
{{- $faults = append $faults (printf "give proxy.service.port and grpcPort two ports: both are %v" $proxy.service.port) -}}
{{- end -}}
{{- $faults = concat $faults (include "aegis.faults.autoscaling" (dict "settings" $proxy "at" "proxy.autoscaling") | fromJsonArray) -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- $faults = append $faults "set gateway.parentRefs to the Gateways that the routes hang on, as [{name: edge, namespace: gateways}]" -}}
{{- end -}}
{{- if and .Values.test.image.repository (not (or .Values.test.image.tag .Values.test.image.digest)) -}}
{{- $faults = append $faults "set test.image.tag (or digest) to the version of the image of aegis-loadtest" -}}
{{- end -}}
{{- if and .Values.test.model (not (hasKey .Values.models .Values.test.model)) -}}
{{- $faults = append $faults (printf "name one of models in test.model: there is no %q" .Values.test.model) -}}
{{- end -}}
{{- toJson $faults -}}
{{- end -}}

{{/* Takes a dict: settings, at. */}}
{{- define "aegis.faults.autoscaling" -}}
{{- $faults := list -}}
{{- with .settings.autoscaling -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- $faults = append $faults (printf "keep minReplicas (%v) of %s at or under maxReplicas (%v)" .minReplicas $.at .maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- if gt (int .settings.rollout.minReadySeconds) (sub (int .settings.rollout.progressDeadlineSeconds) 1 | int) -}}
{{- $faults = append $faults (printf "keep rollout.minReadySeconds (%v) beside %s under progressDeadlineSeconds (%v): no pod would count before the rollout has failed" .settings.rollout.minReadySeconds .at .settings.rollout.progressDeadlineSeconds) -}}
{{- end -}}
{{- toJson $faults -}}
{{- end -}}

{{- define "aegis.faults.models" -}}
{{- $faults := list -}}
{{- if not .Values.models -}}
{{- $faults = append $faults "set models: the proxy serves at least one" -}}
{{- end -}}
{{- range $name, $model := .Values.models -}}
{{- $at := printf "models.%s" $name -}}
{{- if not $model.versions -}}
{{- $faults = append $faults (printf "set %s.versions: a model has at least one" $at) -}}
{{- end -}}
{{- $total := 0.0 -}}
{{- $weighed := true -}}
{{- range $version, $own := $model.versions -}}
{{- if kindIs "invalid" ($own | default dict).weight -}}
{{- $weighed = false -}}
{{- $faults = append $faults (printf "set %s.versions.%s.weight: its part of the traffic, 0 for none" $at $version) -}}
{{- else -}}
{{- $total = addf $total $own.weight -}}
{{- end -}}
{{- end -}}
{{- if and $model.versions $weighed (eq $total 0.0) -}}
{{- $faults = append $faults (printf "give one of %s.versions a weight above 0: no request could be routed" $at) -}}
{{- end -}}
{{- range $model.fallback -}}
{{- if not (hasKey ($model.versions | default dict) .) -}}
{{- $faults = append $faults (printf "name versions in %s.fallback: there is no version %q" $at .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $faults -}}
{{- end -}}

{{- define "aegis.faults.backends" -}}
{{- $faults := list -}}
{{- $names := dict -}}
{{- range include "aegis.backends" . | fromJsonArray -}}
{{- $at := printf "models.%s.versions.%s" .model .version -}}
{{- if not .image.repository -}}
{{- $faults = append $faults (printf "set backend.image.repository (or that of %s) to where you pushed the image of aegis-backend: none is published yet" $at) -}}
{{- end -}}
{{- if not (or .image.tag .image.digest) -}}
{{- $faults = append $faults (printf "set backend.image.tag or digest (or that of %s) to the version of the image of aegis-backend" $at) -}}
{{- end -}}
{{- if not .modelRepository.volume -}}
{{- if not .source -}}
{{- $faults = append $faults (printf "set backend.modelRepository.volume (or that of %s) to the volume with the models, as {persistentVolumeClaim: {claimName: models, readOnly: true}}, or %s.source to an archive" $at $at) -}}
{{- end -}}
{{- else if ne (len .modelRepository.volume) 1 -}}
{{- $faults = append $faults (printf "give backend.modelRepository.volume (or that of %s) one source: it has %s" $at (keys .modelRepository.volume | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if and .trustedKeys.files .trustedKeys.volume -}}
{{- $faults = append $faults (printf "give backend.trustedKeys (or that of %s) files or a volume, and not both" $at) -}}
{{- else if and .trustedKeys.volume (ne (len .trustedKeys.volume) 1) -}}
{{- $faults = append $faults (printf "give backend.trustedKeys.volume (or that of %s) one source: it has %s" $at (keys .trustedKeys.volume | sortAlpha | join ", ")) -}}
{{- else if ne (empty .trustedKeys.volume) (empty .trustedKeys.names) -}}
{{- $faults = append $faults (printf "give backend.trustedKeys (or that of %s) a volume and the names of its files, or neither" $at) -}}
{{- else if and (ne .config.verify "off") (empty .trustedKeys.files) (empty .trustedKeys.names) -}}
{{- $faults = append $faults (printf "set backend.trustedKeys (or that of %s) to the public keys that sign your models, or backend.config.verify to off" $at) -}}
{{- end -}}
{{- if and (eq $.Values.discovery "dns") (lt (int .rollout.minReadySeconds) 45) -}}
{{- $faults = append $faults (printf "set backend.rollout.minReadySeconds (or that of %s) to 45 or more, with discovery: dns: it is %v, and an old pod would go before the proxies know a new one" $at .rollout.minReadySeconds) -}}
{{- end -}}
{{- $faults = concat $faults (include "aegis.faults.autoscaling" (dict "settings" . "at" (printf "backend.autoscaling (or that of %s)" $at)) | fromJsonArray) -}}
{{- if and (ne .autoscaling.by "off") (empty (include "aegis.autoscaling.targets" . | fromJson)) -}}
{{- $faults = append $faults (printf "set one of backend.autoscaling.targets (or that of %s): nothing is held to" $at) -}}
{{- end -}}
{{- if and (eq .autoscaling.by "keda") (not .autoscaling.keda.serverAddress) -}}
{{- $faults = append $faults (printf "set backend.autoscaling.keda.serverAddress (or that of %s) to your Prometheus, as http://prometheus-operated.monitoring.svc:9090" $at) -}}
{{- end -}}
{{- range $label := list .model .version -}}
{{- if not (regexMatch "^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$" $label) -}}
{{- $faults = append $faults (printf "rename %q of %s: it has to fit into a label of Kubernetes, of at most 63 characters that begin and end with a letter or a digit" $label $at) -}}
{{- end -}}
{{- end -}}
{{- if and .source (ne (len .modelCache.volume) 1) -}}
{{- $faults = append $faults (printf "give backend.modelCache.volume (or that of %s) one source: it has %s" $at (keys .modelCache.volume | sortAlpha | join ", " | default "none")) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$" .slug) -}}
{{- $faults = append $faults (printf "set %s.name: %q cannot end the name of a Service" $at .slug) -}}
{{- else if gt (len .fullname) 63 -}}
{{- $faults = append $faults (printf "set %s.name to a shorter one: %s has %d characters, and the name of a Service at most 63" $at .fullname (len .fullname)) -}}
{{- else if hasKey $names .slug -}}
{{- $faults = append $faults (printf "set %s.name: its objects would be named %s, as those of %s" $at .fullname (get $names .slug)) -}}
{{- else if has .slug (list "proxy" "backend") -}}
{{- $faults = append $faults (printf "set %s.name to another one: %q is taken by the chart" $at .slug) -}}
{{- else -}}
{{- $_ := set $names .slug $at -}}
{{- end -}}
{{- if gt (int .config.drain_delay_ms) (int .config.grace_ms) -}}
{{- $faults = append $faults (printf "keep drain_delay_ms (%v) of %s at or under grace_ms (%v): the delay is part of the drain" .config.drain_delay_ms $at .config.grace_ms) -}}
{{- end -}}
{{- end -}}
{{- $faults | uniq | toJson -}}
{{- end -}}
