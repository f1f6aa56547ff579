"""Releases of the chart that together switch everything on."""

from __future__ import annotations

from typing import Any

from tests.support.services import SERVICES

ON = {name: {"enabled": True} for name in SERVICES}
_SHARED = {"working": {"accessMode": "ReadWriteMany"}}
RELEASES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "all services": {"services": ON},
    "everything else": {
        "image": {"prefix": "registry.example/", "tag": "1.0", "pullSecrets": ["pull"]},
        "defaults": {"existingSecret": "keys", "podAnnotations": {"a": "b"}},
        "services": ON
        | {
            "classic_ml_inference_service": {
                "enabled": True,
                "autoscaling": {"enabled": True, "perPod": {"requests_in_flight": "32"}},
                "topologySpreadConstraints": [
                    {
                        "maxSkew": 1,
                        "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "ScheduleAnyway",
                    }
                ],
            },
            "llm_inference_service": {
                "enabled": True,
                "gpu": {"count": 1, "runtimeClassName": "nvidia"},
                "nodeSelector": {"gpu": "h100"},
                "affinity": {"podAntiAffinity": {}},
                "folders": {"working": {"size": "10Gi", "storageClassName": "fast"}},
            },
            "unsloth_trainer_service": {
                "enabled": True,
                "replicas": 2,
                "database": "postgresql",
                "executor": "ray",
                "gpu": {"count": 1},
                "tolerations": [{"key": "a", "operator": "Exists"}],
                "folders": _SHARED
                | {
                    "input": {"existingClaim": "data", "subPath": "rows"},
                    "output": {"accessMode": "ReadWriteMany"},
                },
            },
            "ezkl_proof_service": {"enabled": True, "database": "existingSecret"},
        },
        "networkPolicy": {
            "enabled": True,
            "from": [{"namespaceSelector": {"matchLabels": {"name": "node"}}}],
            "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}],
        },
        "metrics": {"serviceMonitor": {"enabled": True, "keySecret": "keys"}},
        "postgresql": {"enabled": True, "existingSecret": "postgresql"},
        "node": {"enabled": True},
        "ray": {
            "image": "registry.example/ray:1",
            "env": {"A": "1"},
            "existingSecret": "keys",
            "folders": {"shared": {"path": "/mnt/working", "size": "10Gi"}},
            "workers": {"gpu": {"count": 1}},
            "cluster": {"enabled": True},
            "services": {"llm": {"serveConfig": "applications:\n- name: llm\n"}},
            "jobs": {"tune": {"entrypoint": "python -m tune", "runtimeEnv": "env_vars: {A: b}"}},
        },
    },
}
