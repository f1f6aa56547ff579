{{/* The release's name for what is one of a kind, such as its PostgreSQL. */}}
{{- define "infernet.fullname" -}}
{{- contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) | trunc 36 | trimSuffix "-" -}}
{{- end -}}

{{/* A service's name as Kubernetes has names: (dict "root" $ "name" NAME). */}}
{{- define "infernet.name" -}}
{{- printf "%s-%s" (.root.Release.Name | trunc 30 | trimSuffix "-") (.name | replace "_" "-") -}}
{{- end -}}

{{- define "infernet.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "infernet.labels" -}}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{ include "infernet.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- define "infernet.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "infernet.fullname" .) "default") -}}
{{- end -}}

{{/* The services that are on: their facts, the defaults, and their own values over both. */}}
{{- define "infernet.services" -}}
{{- $on := dict -}}
{{- range $name, $facts := .Files.Get "services.yaml" | fromYaml -}}
{{- $own := index $.Values.services $name -}}
{{- if $own.enabled -}}
{{- $service := mergeOverwrite (deepCopy $.Values.defaults) (deepCopy $own) $facts -}}
{{- $_ := set $on $name $service -}}
{{- end -}}
{{- end -}}
{{- toYaml $on -}}
{{- end -}}

{{/* What is wrong with a service's values together, where a schema cannot say it. */}}
{{- define "infernet.check" -}}
{{- $several := or (gt (int .service.replicas) 1) .service.autoscaling.enabled -}}
{{- range $folder, $spec := .service.folders -}}
{{- if and $several (include "infernet.isOneNodes" $spec) -}}
{{- fail (printf "services.%s: several replicas need folders that several nodes can write: set folders.%s.accessMode to ReadWriteMany" $.name $folder) -}}
{{- end -}}
{{- end -}}
{{- if .service.jobs -}}
{{- if and (eq .service.executor "ray") (eq .service.database "sqlite") -}}
{{- fail (printf "services.%s: jobs on Ray need a database of their own: set database to postgresql or existingSecret" .name) -}}
{{- end -}}
{{- if and $several (eq .service.database "sqlite") -}}
{{- fail (printf "services.%s: several replicas share a database of jobs: set database to postgresql or existingSecret" .name) -}}
{{- end -}}
{{- if and (eq .service.database "postgresql") (not .root.Values.postgresql.enabled) -}}
{{- fail (printf "services.%s.database: postgresql.enabled is false; with a server of your own give existingSecret, with %sDATABASE_URL in the Secret" .name .service.prefix) -}}
{{- end -}}
{{- if and (eq .service.database "existingSecret") (not .service.existingSecret) -}}
{{- fail (printf "services.%s.existingSecret: name the Secret that has %sDATABASE_URL" .name .service.prefix) -}}
{{- end -}}
{{- end -}}
{{- if gt (addf (include "infernet.drainSeconds" .) 0) 70.0 -}}
{{- fail (printf "services.%s.env: the drain delay and the grace of jobs take 70 seconds together at most: serve ends then" .name) -}}
{{- end -}}
{{- end -}}

{{/* Whether a folder is a claim that the pods of one node alone can write. */}}
{{- define "infernet.isOneNodes" -}}
{{- if and (or .size .existingClaim) (not .readOnly) (ne (.accessMode | default "ReadWriteOnce") "ReadWriteMany") -}}true{{- end -}}
{{- end -}}

{{/* From SIGTERM until the requests in flight have their own time: a drain delay, and jobs that save. */}}
{{- define "infernet.drainSeconds" -}}
{{- $env := .service.env -}}
{{- addf (index $env (printf "%sDRAIN_DELAY_SECONDS" .service.prefix) | float64) (index $env (printf "%sGRACE_SECONDS" .service.prefix) | default "0" | float64) -}}
{{- end -}}

{{/* OpenMP's threads as `serve` counts them, on the cores that the pod asked for and not the node's. */}}
{{- define "infernet.threads" -}}
{{- $cpu := dig "limits" "cpu" (dig "requests" "cpu" "1" .resources) .resources | toString -}}
{{- $cores := hasSuffix "m" $cpu | ternary (divf (trimSuffix "m" $cpu | float64) 1000) (trimSuffix "m" $cpu | float64) -}}
{{- max 1 (int (floor (divf $cores (mul 2 (int .workers))))) -}}
{{- end -}}
