{{- /* What several templates need. */ -}}

{{- define "egressd.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "egressd" .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-egressd" .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* The release is among them: two releases in one namespace must not select each other's pods. */ -}}
{{- define "egressd.selectorLabels" -}}
app.kubernetes.io/name: egressd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "egressd.labels" -}}
{{ include "egressd.selectorLabels" . }}
app.kubernetes.io/part-of: egressd
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "egressd.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* A duration of the configuration, such as 1h30m, in whole seconds, rounded up. The schema knows the form. */ -}}
{{- define "egressd.seconds" -}}
{{- $milliseconds := 0 -}}
{{- range regexFindAll "[0-9]+(ms|[dhms])" . -1 -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $unit := get (dict "d" 86400000 "h" 3600000 "m" 60000 "s" 1000 "ms" 1) (regexFind "[a-z]+$" .) -}}
{{- $milliseconds = add $milliseconds (mul $number $unit) -}}
{{- end -}}
{{- div (add $milliseconds 999) 1000 -}}
{{- end -}}

{{- /* Longer than egressd takes to drain: 20 s are for the last records. With a shorter time, the kubelet kills the pod in the middle of a push. */ -}}
{{- define "egressd.secondsToEnd" -}}
{{- $delay := include "egressd.seconds" (dig "shutdown" "delay" "0s" .Values.config) -}}
{{- $grace := include "egressd.seconds" (dig "shutdown" "grace_period" "60s" .Values.config) -}}
{{- add (int64 $delay) (int64 $grace) 20 -}}
{{- end -}}

{{- define "egressd.adminPort" -}}
{{- dig "admin" "address" "0.0.0.0:9180" .Values.config | regexFind "[0-9]+$" -}}
{{- end -}}

{{- /* The listeners with a port, as YAML: [{name, port}]. A port's name has at most 15 characters, and a letter among them. */ -}}
{{- define "egressd.ports" -}}
{{- $ports := list -}}
{{- range default (list (dict "name" "proxy" "address" "0.0.0.0:3128")) .Values.config.listeners -}}
{{- if not (hasPrefix "unix:" .address) -}}
{{- $port := regexFind "[0-9]+$" .address | int64 -}}
{{- $name := default "" .name -}}
{{- if or (not (regexMatch "^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$" $name)) (contains "--" $name) (not (regexMatch "[a-z]" $name)) (eq $name "admin") -}}
{{- $name = printf "port-%d" $port -}}
{{- end -}}
{{- $ports = append $ports (dict "name" $name "port" $port) -}}
{{- end -}}
{{- end -}}
{{- toYaml $ports -}}
{{- end -}}

{{- /* egressd.yaml: the value `config`, and what tls, proxyProtocol, inspection and policiesConfigMap add to it. */ -}}
{{- define "egressd.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $trusted := .Values.proxyProtocol.trusted -}}
{{- $listeners := list -}}
{{- range default (list (dict "name" "proxy" "address" "0.0.0.0:3128")) $config.listeners -}}
{{- $listener := deepCopy . -}}
{{- if not (hasPrefix "unix:" .address) -}}
{{- if and $trusted (not (hasKey $listener "proxy_protocol")) -}}
{{- $_ := set $listener "proxy_protocol" (dict "trusted" $trusted) -}}
{{- end -}}
{{- if and $.Values.tls.secretName (not (hasKey $listener "tls")) -}}
{{- $tls := dict "certificate" "tls/tls.crt" "key" "tls/tls.key" -}}
{{- if $.Values.tls.clientCertificates -}}
{{- $_ := set $tls "client_ca" "tls/ca.crt" -}}
{{- end -}}
{{- $_ := set $listener "tls" $tls -}}
{{- end -}}
{{- end -}}
{{- $listeners = append $listeners $listener -}}
{{- end -}}
{{- $_ := set $config "listeners" $listeners -}}
{{- if $trusted -}}
{{- $admin := default (dict) $config.admin -}}
{{- if not (hasKey $admin "proxy_protocol") -}}
{{- $_ := set $admin "proxy_protocol" (dict "trusted" $trusted) -}}
{{- end -}}
{{- $_ := set $config "admin" $admin -}}
{{- end -}}
{{- if and .Values.inspection.secretName (not (hasKey $config "inspection")) -}}
{{- $_ := set $config "inspection" (dict "certificate" "ca/authority.crt" "key" "ca/authority.key") -}}
{{- end -}}
{{- if .Values.policiesConfigMap -}}
{{- $_ := set $config "include" (append (default (list) $config.include) "/etc/egressd-policies/*.yaml") -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "egressd.configMap" -}}
{{- default (include "egressd.fullname" .) .Values.existingConfigMap -}}
{{- end -}}

{{- /* Secrets whose keys are files beside egressd.yaml, as sources of a projected volume. */ -}}
{{- define "egressd.secretSources" -}}
{{- $sources := list -}}
{{- with .Values.tls -}}
{{- if .secretName -}}
{{- $items := list (dict "key" "tls.crt" "path" "tls/tls.crt") (dict "key" "tls.key" "path" "tls/tls.key") -}}
{{- if .clientCertificates -}}
{{- $items = append $items (dict "key" "ca.crt" "path" "tls/ca.crt") -}}
{{- end -}}
{{- $sources = append $sources (dict "secret" (dict "name" .secretName "items" $items)) -}}
{{- end -}}
{{- end -}}
{{- with .Values.inspection.secretName -}}
{{- $items := list -}}
{{- range list "authority.crt" "authority.key" -}}
{{- $items = append $items (dict "key" . "path" (printf "ca/%s" .)) -}}
{{- end -}}
{{- $sources = append $sources (dict "secret" (dict "name" . "items" $items)) -}}
{{- end -}}
{{- range .Values.secrets -}}
{{- $items := list -}}
{{- range $key, $path := .items -}}
{{- $items = append $items (dict "key" $key "path" $path) -}}
{{- end -}}
{{- $sources = append $sources (dict "secret" (dict "name" .name "items" $items)) -}}
{{- end -}}
{{- if $sources -}}
{{- toYaml $sources -}}
{{- end -}}
{{- end -}}

{{- /* Out to DNS: CoreDNS's pods, and NodeLocal DNSCache. */ -}}
{{- define "egressd.toDns" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .Values.clusterDns.namespace }}
      podSelector:
        matchLabels:
          {{- toYaml .Values.clusterDns.podLabels | nindent 10 }}
    {{- range .Values.clusterDns.networks }}
    - ipBlock:
        cidr: {{ . | quote }}
    {{- end }}
  ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end -}}

{{- /* The annotations of the AWS Load Balancer Controller. Why each is there: k8s/overlays/eks-fargate/service.yaml. */ -}}
{{- define "egressd.nlb" -}}
{{- $prefix := "service.beta.kubernetes.io/aws-load-balancer" -}}
{{- $wait := include "egressd.secondsToEnd" . | int64 -}}
{{- if gt $wait 3600 -}}
{{- fail (printf "config.shutdown: delay, grace_period and 20 s are %d s together, and a target group waits for 3600 s at most: shorten them, or set service.nlb.enabled to false" $wait) -}}
{{- end -}}
{{ $prefix }}-type: external
{{ $prefix }}-nlb-target-type: ip
{{ $prefix }}-scheme: {{ .Values.service.nlb.scheme }}
{{ $prefix }}-healthcheck-protocol: http
{{ $prefix }}-healthcheck-port: {{ include "egressd.adminPort" . | quote }}
{{ $prefix }}-healthcheck-path: /healthz
{{ $prefix }}-healthcheck-interval: "10"
{{ $prefix }}-healthcheck-healthy-threshold: "2"
{{ $prefix }}-healthcheck-unhealthy-threshold: "3"
{{ $prefix }}-attributes: load_balancing.cross_zone.enabled=true,deletion_protection.enabled={{ .Values.service.nlb.deletionProtection }}
{{ $prefix }}-target-group-attributes: preserve_client_ip.enabled=true,deregistration_delay.timeout_seconds={{ $wait }},target_health_state.unhealthy.connection_termination.enabled=false,target_health_state.unhealthy.draining_interval_seconds={{ $wait }}
{{- range include "egressd.ports" . | fromYamlArray }}
{{ $prefix }}-listener-attributes.TCP-{{ .port }}: tcp.idle_timeout.seconds={{ $.Values.service.nlb.idleTimeoutSeconds }}
{{- end }}
{{- if .Values.proxyProtocol.trusted }}
{{ $prefix }}-proxy-protocol: "*"
{{- end }}
{{- end -}}

{{- /* What no schema can say. Each message tells what to write instead. */ -}}
{{- define "egressd.checks" -}}
{{- if .Values.existingConfigMap -}}
{{- range $value, $set := dict "tls.secretName" .Values.tls.secretName "inspection.secretName" .Values.inspection.secretName "policiesConfigMap" .Values.policiesConfigMap "proxyProtocol.trusted" .Values.proxyProtocol.trusted -}}
{{- if $set -}}
{{- fail (printf "%s writes into egressd.yaml, which existingConfigMap brings: write its keys there yourself; `secrets` mounts files beside it, `service.annotations` sets annotations" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $own := include "egressd.labels" . | fromYaml -}}
{{- $own = set $own "app.kubernetes.io/component" "metrics" -}}
{{- range $value, $labels := dict "podLabels" .Values.podLabels "service.labels" .Values.service.labels "monitoring.labels" .Values.monitoring.labels "monitoring.dashboard.labels" .Values.monitoring.dashboard.labels -}}
{{- range $label, $_ := $labels -}}
{{- if hasKey $own $label -}}
{{- fail (printf "%s: %s is one of the chart's own labels, which selectors look for: take another one" $value $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey .Values.files "egressd.yaml" -}}
{{- fail "files: egressd.yaml is made of the value `config`: write its keys there, or bring a ConfigMap of yours with existingConfigMap" -}}
{{- end -}}
{{- if not (include "egressd.ports" . | fromYamlArray) -}}
{{- fail "config.listeners: none has a port, and clients reach a pod by a port alone: write `address: 0.0.0.0:3128`" -}}
{{- end -}}
{{- $seen := dict (include "egressd.adminPort" .) "config.admin" -}}
{{- range include "egressd.ports" . | fromYamlArray -}}
{{- $port := printf "%d" (int64 .port) -}}
{{- if hasKey $seen $port -}}
{{- fail (printf "config.listeners: port %s is that of %s, too: give each a port of its own" $port (get $seen $port)) -}}
{{- end -}}
{{- $_ := set $seen $port (printf "the listener %s" .name) -}}
{{- end -}}
{{- if and .Values.monitoring.podMonitor.enabled .Values.monitoring.serviceMonitor.enabled -}}
{{- fail "monitoring: podMonitor and serviceMonitor would have each replica scraped twice, and alerts count replicas: enable one of them" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int64 .Values.autoscaling.minReplicas) (int64 .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling: minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- end -}}

{{- /* The networks that can reach a load balancer. A policy without networks is for all private ones, which nobody has to mean here. */ -}}
{{- define "egressd.sourceRanges" -}}
{{- $ranges := .Values.service.loadBalancerSourceRanges -}}
{{- if not $ranges -}}
{{- $policies := default (list) .Values.config.policies -}}
{{- if or .Values.existingConfigMap .Values.policiesConfigMap (not $policies) -}}
{{- fail "service.loadBalancerSourceRanges: the policies are not in `config`, so the chart does not know the clients: write their networks here" -}}
{{- end -}}
{{- range $policies -}}
{{- $networks := dig "clients" "networks" (list) . -}}
{{- if or (not $networks) (dig "clients" "networks_files" (list) .) -}}
{{- fail (printf "service.loadBalancerSourceRanges: policy %s has no clients.networks, or has others in files: write the networks that can reach the balancer here" (default "without a name" .name)) -}}
{{- end -}}
{{- $ranges = concat $ranges $networks -}}
{{- end -}}
{{- end -}}
{{- toYaml (uniq $ranges) -}}
{{- end -}}

{{- /* The proxy's URL for `helm test`; empty where a pod without more settings cannot be its client. */ -}}
{{- define "egressd.testedProxy" -}}
{{- $via := .Values.tests.via -}}
{{- $tls := not (empty .Values.tls.secretName) -}}
{{- if and (not $via) .Values.service.enabled (not .Values.proxyProtocol.trusted) -}}
{{- $port := (first (include "egressd.ports" . | fromYamlArray)).port | int64 -}}
{{- $via = printf "%s://%s.%s.svc:%d" (ternary "https" "http" $tls) (include "egressd.fullname" .) .Release.Namespace $port -}}
{{- end -}}
{{- if or (not $tls) .Values.tests.clientSecretName -}}
{{- $via -}}
{{- end -}}
{{- end -}}
