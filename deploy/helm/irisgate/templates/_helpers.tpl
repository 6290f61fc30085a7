{{- define "irisgate.labels" -}}
{{ include "irisgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "irisgate.selector" -}}
app.kubernetes.io/name: irisgate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "irisgate.name" -}}
{{ contains "irisgate" .Release.Name | ternary .Release.Name (printf "%s-irisgate" .Release.Name) | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- /* the address that the sidecar and the health check call */ -}}
{{- define "irisgate.address" -}}
{{ eq .Values.tailscale.mode "serve" | ternary "unix:/run/irisgate/http.sock" "127.0.0.1:8080" }}
{{- end }}

{{- define "irisgate.probe" -}}
{{ eq .Values.tailscale.mode "serve" | ternary "" "http://" }}{{ include "irisgate.address" . }}
{{- end }}

{{- /* the configuration with the listeners of the mode */ -}}
{{- define "irisgate.config" -}}
{{- $identity := eq .Values.tailscale.mode "serve" | ternary "serve-headers" "whois" }}
{{- $listener := dict "listen" (include "irisgate.address" .) "identity" $identity }}
{{- if eq .Values.tailscale.mode "whois" }}
{{- $listener = set $listener "tailscaled" "/var/run/tailscale/tailscaled.sock" }}
{{- end }}
{{- $listeners := list $listener }}
{{- $grants := .Values.config.grants | default list }}
{{- if .Values.metrics.enabled }}
{{- $login := "prometheus@cluster.local" }}
{{- $listen := printf "0.0.0.0:%d" (int .Values.metrics.port) }}
{{- $listeners = append $listeners (dict "listen" $listen "identity" "static" "login" $login) }}
{{- $capability := dict "tailscale.com/cap/aperture" (list (dict "read_metrics" true)) }}
{{- $grants = append $grants (dict "src" (list $login) "app" $capability) }}
{{- end }}
{{- $server := dict "listeners" $listeners "drain_seconds" (int .Values.drainSeconds) }}
{{- $server = mergeOverwrite $server (deepCopy (.Values.config.server | default dict)) }}
{{- mergeOverwrite (deepCopy .Values.config) (dict "server" $server "grants" $grants) | toPrettyJson }}
{{- end }}

{{- /* what no container of the pod needs */ -}}
{{- define "irisgate.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}
