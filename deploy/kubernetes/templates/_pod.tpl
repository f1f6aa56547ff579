{{/* Of every pod: an account without rights, and nothing of the cluster's API. */}}
{{- define "infernet.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "infernet.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* Where a service's containers may write beside its folders: (dict "sharedMemory" SIZE). */}}
{{- define "infernet.scratchMounts" -}}
- { name: tmp, mountPath: /tmp }
- { name: home, mountPath: /home/infernet }
{{- if .sharedMemory }}
- { name: shared-memory, mountPath: /dev/shm }
{{- end }}
{{- range $folder, $spec := .folders }}
- name: {{ $folder | quote }}
  mountPath: {{ $spec.path | quote }}
  {{- if $spec.readOnly }}
  readOnly: true
  {{- end }}
  {{- if $spec.subPath }}
  subPath: {{ $spec.subPath | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The volumes of those mounts; a folder with a size has a claim "NAME-FOLDER". */}}
{{- define "infernet.volumes" -}}
- { name: tmp, emptyDir: {} }
- { name: home, emptyDir: {} }
{{- if .service.sharedMemory }}
- { name: shared-memory, emptyDir: { medium: Memory, sizeLimit: {{ .service.sharedMemory | quote }} } }
{{- end }}
{{- range $folder, $spec := .service.folders }}
- name: {{ $folder | quote }}
  {{- if or $spec.existingClaim $spec.size }}
  persistentVolumeClaim:
    claimName: {{ $spec.existingClaim | default (printf "%s-%s" $.claims $folder) | quote }}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end }}
{{- end -}}

{{/* A container's resources, with GPUs: (dict "resources" … "gpu" …). */}}
{{- define "infernet.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int .gpu.count) 0 -}}
{{- $_ := set $resources "limits" (merge (dict .gpu.resource (int .gpu.count)) ($resources.limits | default dict)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* Where a pod may be placed. One with GPUs is let onto nodes that are kept for those. */}}
{{- define "infernet.placement" -}}
{{- $tolerations := .tolerations -}}
{{- if gt (int .gpu.count) 0 -}}
{{- $tolerations = append $tolerations (dict "key" .gpu.resource "operator" "Exists" "effect" "NoSchedule") -}}
{{- if .gpu.runtimeClassName }}
runtimeClassName: {{ .gpu.runtimeClassName | quote }}
{{- end -}}
{{- end -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end -}}
{{- with $tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end -}}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{- define "infernet.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* A service's variables: (dict "root" $ "name" NAME "service" …). */}}
{{- define "infernet.environment" -}}
{{- if and .service.jobs (eq .service.database "postgresql") }}
- name: POSTGRES_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ required "postgresql.existingSecret: name a Secret with the key password" .root.Values.postgresql.existingSecret | quote }}
      key: password
- name: {{ .service.prefix }}DATABASE_URL
  value: postgresql://postgres:$(POSTGRES_PASSWORD)@{{ include "infernet.fullname" .root }}-postgresql:5432/{{ .name }}
{{- end }}
{{- if and .service.jobs (eq .service.executor "ray") }}
- { name: {{ .service.prefix }}EXECUTOR, value: ray }
{{- if .root.Values.ray.cluster.enabled }}
{{- $cluster := printf "%s-ray" (include "infernet.fullname" .root) }}
# KubeRay makes the Secret, and the Service of the head.
- { name: {{ .service.prefix }}RAY_ADDRESS, value: "http://{{ $cluster }}-head-svc:8265" }
- name: {{ .service.prefix }}RAY_TOKEN
  valueFrom:
    secretKeyRef: { name: {{ $cluster }}, key: auth_token }
{{- end }}
{{- end }}
{{- if not (hasKey .service.env "OMP_NUM_THREADS") }}
- { name: OMP_NUM_THREADS, value: {{ include "infernet.threads" .service | quote }} }
{{- end }}
{{- range $variable, $value := .service.env }}
- { name: {{ $variable | quote }}, value: {{ $value | quote }} }
{{- end }}
{{- end -}}
