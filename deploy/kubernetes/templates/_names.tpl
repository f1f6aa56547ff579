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
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | trimAll "-_." | quote }}
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
{{- $of := printf "services.%s" .name -}}
{{- include "infernet.checkFolders" (dict "of" $of "folders" .service.folders) -}}
{{- include "infernet.checkResources" (dict "of" $of "resources" .service.resources) -}}
{{- include "infernet.checkAutoscaling" (dict "of" $of "autoscaling" .service.autoscaling "resources" .service.resources) -}}
{{- $several := or (gt (int .service.replicas) 1) .service.autoscaling.enabled -}}
{{- $onRay := and .service.jobs (eq .service.executor "ray") -}}
{{- if .service.jobs -}}
{{- include "infernet.checkJobsEnv" . -}}
{{- end -}}
{{- if and $onRay (eq .service.database "sqlite") -}}
{{- fail (printf "services.%s: jobs on Ray need a database of their own: set database to postgresql or existingSecret" .name) -}}
{{- end -}}
{{- $elsewhere := and $onRay (not (index .service.env (printf "%sFILES_URL" .service.prefix))) -}}
{{- range $folder, $spec := .service.folders -}}
{{- if and (or $several $elsewhere) (include "infernet.isOneNodes" $spec) -}}
{{- fail (printf "services.%s: %s need folders that several nodes can write: set folders.%s.accessMode to ReadWriteMany, or its size to \"\" where each pod may have one of its own" $.name ($several | ternary "several replicas" "jobs on Ray") $folder) -}}
{{- end -}}
{{- end -}}
{{- if .service.jobs -}}
{{- if $onRay -}}
{{- include "infernet.checkCluster" . -}}
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

{{/* What a value of its own says better than a variable, which would be there twice or not be heeded. */}}
{{- define "infernet.checkJobsEnv" -}}
{{- $says := dict "EXECUTOR" "set executor in its place" "DATABASE_URL" "it has a password: set database to existingSecret, and put it into that Secret" -}}
{{- if and (eq .service.executor "ray") .root.Values.ray.cluster.enabled -}}
{{- $says = merge $says (dict "RAY_ADDRESS" "ray.cluster has its own" "RAY_TOKEN" "ray.cluster has its own") -}}
{{- end -}}
{{- range $name, $mend := $says -}}
{{- $variable := printf "%s%s" $.service.prefix $name -}}
{{- if hasKey $.service.env $variable -}}
{{- fail (printf "services.%s.env.%s: %s" $.name $variable $mend) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether there is a cluster for jobs, and its token. */}}
{{- define "infernet.checkCluster" -}}
{{- if .root.Values.ray.cluster.enabled -}}
{{- if not .root.Values.ray.tokenAuthentication -}}
{{- fail (printf "services.%s.executor: jobs go to a cluster that asks for a token: set ray.tokenAuthentication to true" .name) -}}
{{- end -}}
{{- else if not .service.existingSecret -}}
{{- fail (printf "services.%s.executor: set ray.cluster.enabled, or %sRAY_ADDRESS in env and name the Secret with %sRAY_TOKEN in existingSecret" .name .service.prefix .service.prefix) -}}
{{- end -}}
{{- end -}}

{{/* Each folder has a place of its own: (dict "of" PATH "folders" …). */}}
{{- define "infernet.checkFolders" -}}
{{- $taken := dict "/tmp" "" "/home/infernet" "" "/dev/shm" "" -}}
{{- range $folder, $spec := .folders -}}
{{- $path := trimSuffix "/" $spec.path -}}
{{- if hasKey $taken $path -}}
{{- fail (printf "%s.folders.%s.path: there is a folder at %s already" $.of $folder $path) -}}
{{- end -}}
{{- $_ := set $taken $path "" -}}
{{- end -}}
{{- end -}}

{{/* Nobody asks for more than the limit: (dict "of" PATH "resources" …). */}}
{{- define "infernet.checkResources" -}}
{{- range $resource, $least := .resources.requests -}}
{{- $most := index ($.resources.limits | default dict) $resource -}}
{{- if and $most (gt (include "infernet.amount" $least | float64) (include "infernet.amount" $most | float64)) -}}
{{- fail (printf "%s.resources: requests.%s is %v and limits.%s is %v; a limit is the same at least" $.of $resource $least $resource $most) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A quantity as a number: 1.5, 500m, 2Gi. */}}
{{- define "infernet.amount" -}}
{{- $unit := regexFind "[A-Za-z]+$" (toString .) -}}
{{- $number := trimSuffix $unit (toString .) | float64 -}}
{{- $powers := dict "k" 1 "M" 2 "G" 3 "T" 4 "P" 5 "E" 6 -}}
{{- if eq $unit "m" -}}
{{- divf $number 1000 -}}
{{- else -}}
{{- range until (index $powers (trimSuffix "i" $unit) | default 0 | int) -}}
{{- $number = mulf $number (hasSuffix "i" $unit | ternary 1024 1000) -}}
{{- end -}}
{{- $number -}}
{{- end -}}
{{- end -}}

{{/* An autoscaler has something to go by: (dict "of" PATH "autoscaling" … "resources" …). */}}
{{- define "infernet.checkAutoscaling" -}}
{{- with .autoscaling -}}
{{- if .enabled -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "%s.autoscaling: minReplicas is %v and maxReplicas is %v; give at least as many" $.of .minReplicas .maxReplicas) -}}
{{- end -}}
{{- if not (or .cpuUtilization .perPod) -}}
{{- fail (printf "%s.autoscaling: it has nothing to go by: give cpuUtilization or perPod" $.of) -}}
{{- end -}}
{{- if and .cpuUtilization (not (dig "requests" "cpu" "" $.resources)) -}}
{{- fail (printf "%s.autoscaling.cpuUtilization is a share of resources.requests.cpu: give that too, or 0" $.of) -}}
{{- end -}}
{{- end -}}
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
