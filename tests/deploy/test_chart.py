"""The chart's manifests, as Helm makes them, are what Kubernetes takes and the services need."""

from __future__ import annotations

import copy
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ml.models.torch_settings import TorchSettings
from ml.serving.auth import PUBLIC_PATHS
from ml.serving.settings import ServingSettings
from tests.support.chart import CHART, README, Refused, documents, helm, readme_parts, values_table
from tests.support.chart_releases import RELEASES
from tests.support.processes import ROOT, clean_environment
from tests.support.services import SERVICES

FACTS = yaml.safe_load((CHART / "services.yaml").read_text())
OLDEST, NEWEST = "1.27.0", kubernetes_validate.latest_version()
#: What services read beside their own settings.
FOREIGN_VARIABLES = {"HF_TOKEN", "MODELS_PATH", "OMP_NUM_THREADS", "POSTGRES_PASSWORD"}
#: Kinds of others' operators: of these, the pods alone are Kubernetes' own.
FOREIGN_KINDS = {"RayCluster", "RayJob", "RayService", "ServiceMonitor"}
WORKLOADS = ("Deployment", "StatefulSet")


@cache
def _rendered(release: str) -> list[dict[str, Any]]:
    return documents(RELEASES[release])


def rendered(release: str, *kinds: str) -> list[dict[str, Any]]:
    found = copy.deepcopy(_rendered(release))
    return [document for document in found if not kinds or document["kind"] in kinds]


def pod_templates(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every pod template in a manifest, however deep."""
    if isinstance(node, dict):
        if "containers" in node.get("spec", {}):
            yield node
        for child in node.values():
            yield from pod_templates(child)
    elif isinstance(node, list):
        for child in node:
            yield from pod_templates(child)


def services_of(release: str) -> dict[str, dict[str, Any]]:
    """Return the deployments of the services by the services' names."""
    return {
        document["metadata"]["labels"]["app.kubernetes.io/component"]: document
        for document in rendered(release, "Deployment")
    }


def container_of(deployment: dict[str, Any]) -> dict[str, Any]:
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return dict(container)


def variables(container: dict[str, Any]) -> dict[str, str]:
    """Return the plain variables of a container."""
    return {v["name"]: v["value"] for v in container.get("env", []) if "value" in v}


def settings_of(service: str) -> type[ServingSettings]:
    settings: type[ServingSettings] = importlib.import_module(f"{service}.app").Settings
    return settings


# --- Kubernetes takes it --------------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
def test_helm_finds_nothing_to_complain_of(release: str) -> None:
    said = helm("lint", "--strict", str(CHART), values=RELEASES[release])
    assert "[WARNING]" not in said
    assert "[ERROR]" not in said


@pytest.mark.parametrize(
    ("release", "version"),
    [*((release, NEWEST) for release in RELEASES), ("everything else", OLDEST)],
)
def test_every_manifest_is_one_of_kubernetes(release: str, version: str) -> None:
    for document in rendered(release):
        if document["kind"] not in FOREIGN_KINDS:
            kubernetes_validate.validate(document, version, strict=True)
        for template in pod_templates(document):
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": template["metadata"] | {"name": "a"},
            }
            kubernetes_validate.validate(pod | {"spec": template["spec"]}, version, strict=True)


def test_all_kinds_are_made_once_everything_is_on() -> None:
    kinds = {document["kind"] for document in rendered("everything else")}
    assert kinds == {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy",
        "PersistentVolumeClaim", "PodDisruptionBudget", "RayCluster", "RayJob", "RayService",
        "Service", "ServiceAccount", "ServiceMonitor", "StatefulSet",
    }  # fmt: skip


@pytest.mark.parametrize("release", RELEASES)
def test_names_are_taken_once(release: str) -> None:
    names = [(d["kind"], d["metadata"]["name"]) for d in rendered(release)]
    assert len(set(names)) == len(names)


def test_a_long_name_of_a_release_gives_names_that_are_short_enough() -> None:
    for document in documents(RELEASES["everything else"], release="a" * 53):
        assert len(document["metadata"]["name"]) <= 63, document["metadata"]["name"]


@pytest.mark.parametrize("release", RELEASES)
def test_a_selector_finds_the_pods_that_it_is_for(release: str) -> None:
    pods = [d["spec"]["template"] for d in rendered(release, *WORKLOADS)]
    labels = [pod["metadata"]["labels"] for pod in pods]
    for document in rendered(
        release, *WORKLOADS, "Service", "PodDisruptionBudget", "NetworkPolicy"
    ):
        spec = document["spec"]
        selector = spec.get("selector") or spec["podSelector"]
        wanted = selector.get("matchLabels", selector)
        found = [pod for pod in labels if wanted.items() <= pod.items()]
        component = document["metadata"]["labels"]["app.kubernetes.io/component"]
        assert [pod["app.kubernetes.io/component"] for pod in found] == [component]


def test_an_autoscaler_scales_a_deployment_that_has_no_number_of_its_own() -> None:
    [scaler] = rendered("everything else", "HorizontalPodAutoscaler")
    [scaled] = [
        d for d in rendered("everything else", "Deployment")
        if d["metadata"]["name"] == scaler["spec"]["scaleTargetRef"]["name"]
    ]  # fmt: skip
    assert "replicas" not in scaled["spec"]
    metrics = {m["pods"]["metric"]["name"] for m in scaler["spec"]["metrics"] if "pods" in m}
    document = (ROOT / "docs" / "metrics.md").read_text()
    assert metrics <= set(re.findall(r"^\| `(\w+)` \| gauge", document, flags=re.MULTILINE))


@pytest.mark.parametrize("release", RELEASES)
def test_every_mount_has_its_volume_and_every_volume_of_ours_its_claim(release: str) -> None:
    claims = {
        document["metadata"]["name"] for document in rendered(release, "PersistentVolumeClaim")
    }
    used = set()
    for document in rendered(release):
        for template in pod_templates(document):
            volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
            mounted = [m["name"] for c in template["spec"]["containers"] for m in c["volumeMounts"]]
            made = [v["metadata"]["name"] for v in document["spec"].get("volumeClaimTemplates", [])]
            assert sorted({*volumes, *made}) == sorted(mounted)
            used |= {
                volume["persistentVolumeClaim"]["claimName"]
                for volume in volumes.values()
                if "persistentVolumeClaim" in volume
            }
    assert claims <= used
    assert used - claims <= {"data"}


# --- nothing more than it needs -------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
def test_a_pod_has_no_rights(release: str) -> None:
    """What Kubernetes calls "restricted", a read-only root, and no way into the cluster's API."""
    templates = [t for document in rendered(release) for t in pod_templates(document)]
    assert templates
    for template in templates:
        _require_no_rights(template["spec"])


def _require_no_rights(spec: dict[str, Any]) -> None:
    if spec["containers"][0]["name"] != "ray-head":  # whose autoscaler asks the cluster for pods
        assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert min(security["runAsUser"], security["runAsGroup"], security["fsGroup"]) > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert not [volume for volume in spec["volumes"] if "hostPath" in volume]
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert container["resources"]["limits"]["memory"]


def test_no_secret_stands_in_a_manifest() -> None:
    for document in rendered("everything else"):
        assert document["kind"] != "Secret"
        for template in pod_templates(document):
            for container in template["spec"]["containers"]:
                for variable, value in variables(container).items():
                    assert not re.search("KEYS?$|TOKEN|PASSWORD", variable), variable
                    assert "$(POSTGRES_PASSWORD)" in value or "://postgres:" not in value
        assert "private_key" not in json.dumps(document)


def test_a_pod_with_gpus_asks_for_them_and_is_let_onto_their_nodes() -> None:
    for service in ("llm_inference_service", "unsloth_trainer_service"):
        spec = services_of("everything else")[service]["spec"]["template"]["spec"]
        assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in (
            spec["tolerations"]
        )
    without = services_of("all services")["llm_inference_service"]["spec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in json.dumps(without)


# --- it agrees with the services ------------------------------------------------------------------


def test_each_service_that_is_on_has_its_deployment() -> None:
    assert sorted(services_of("all services")) == sorted(SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_what_the_chart_knows_of_a_service_is_so(service: str) -> None:
    facts, settings = FACTS[service], settings_of(service)
    assert facts["prefix"] == settings.prefix()
    assert facts.get("jobs", False) == ("job_slots" in settings.model_fields)
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"][service]
    published = [port.rpartition("}:")[2].split(":") for port in compose["ports"]]
    assert [int(inside) for _, inside in published] == list(facts["ports"].values())
    assert int(published[0][0]) == facts["port"]
    node = json.loads((ROOT / "docker" / "config.json").read_text())["containers"]
    [container] = [container for container in node if container["id"] == service]
    assert container["port"] == facts["port"]
    assert container["generates_proofs"] == facts.get("proofs", False)


@pytest.mark.parametrize("service", SERVICES)
def test_the_service_starts_with_its_arguments_and_environment(service: str) -> None:
    container = container_of(services_of("everything else")[service])
    given = variables(container)
    read = {*settings_of(service).variables().values(), *FOREIGN_VARIABLES}
    if "classic" in service:
        read |= {name.upper() for name in TorchSettings.model_fields}
    assert {variable["name"] for variable in container["env"]} <= read
    secret = {v["name"]: "secret" for v in container["env"] if "valueFrom" in v}
    serve = Path(sys.executable).with_name("serve")
    ran = subprocess.run(
        [serve, service, *container["args"], "--check"],
        env=clean_environment() | given | secret,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    shown = json.loads(ran.stdout)
    fields = {variable: field for field, variable in settings_of(service).variables().items()}
    for variable, value in given.items():
        if fields.get(variable, "").endswith("_args"):
            assert shown[fields[variable]] == json.loads(value)


@pytest.mark.parametrize("release", ["all services", "everything else"])
@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_may_take_longer_to_end_than_the_service_does(service: str, release: str) -> None:
    deployment = services_of(release)[service]
    container, settings = container_of(deployment), settings_of(service)
    [graceful] = [a for a in container["args"] if a.startswith("--graceful-timeout=")]
    given, names = variables(container), settings.variables()
    seconds = float(graceful.partition("=")[2]) + float(given[names["drain_delay_seconds"]])
    if FACTS[service].get("jobs"):
        seconds += float(given[names["grace_seconds"]])
    granted = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert seconds + 10 < granted <= seconds + 20


@pytest.mark.parametrize("service", SERVICES)
def test_folders_are_where_the_service_looks_for_them(service: str) -> None:
    container = container_of(services_of("all services")[service])
    mounted = {
        mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]
    }
    assert {"/tmp", "/home/infernet"} <= mounted.keys()  # noqa: S108
    for field in ("input_path", "output_path", "working_path"):
        if field in settings_of(service).model_fields:
            path = settings_of(service).model_fields[field].default
            assert mounted[str(path)] is (field == "input_path")


@pytest.mark.parametrize("service", SERVICES)
def test_probes_ask_addresses_of_health_that_need_no_key(service: str) -> None:
    container = container_of(services_of("all services")[service])
    probes = {
        name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")
    }
    # A restart does not help a service that loads, or whose upstream is away.
    assert probes["startup"] == probes["liveness"] == {"path": "/health/live", "port": "http"}
    assert probes["readiness"] == {"path": "/health/ready", "port": "http"}
    assert {probe["path"] for probe in probes.values()} <= PUBLIC_PATHS
    listening = [port for port in container["ports"] if port["name"] == "http"]
    assert f"--bind=0.0.0.0:{listening[0]['containerPort']}" in container["args"]


@pytest.mark.parametrize(
    ("cpu", "workers", "threads"),
    [("500m", 1, 1), ("1", 1, 1), (2, 1, 1), ("4", 1, 2), ("4", 2, 1), ("16", 2, 4), (2.5, 1, 1)],
)
def test_threads_are_counted_on_the_cpus_of_the_pod(cpu: Any, workers: int, threads: int) -> None:
    own = {"enabled": True, "workers": workers, "resources": {"requests": {"cpu": cpu}}}
    [deployment] = [
        document
        for document in documents({"services": {"classic_ml_inference_service": own}})
        if document["kind"] == "Deployment"
    ]
    assert variables(container_of(deployment))["OMP_NUM_THREADS"] == str(threads)


def test_a_service_that_one_node_alone_can_keep_is_replaced_and_not_rolled() -> None:
    strategies = {
        release: {
            name: deployment["spec"]["strategy"]["type"]
            for name, deployment in services_of(release).items()
        }
        for release in RELEASES
    }
    alone = {name for name, how in strategies["all services"].items() if how == "Recreate"}
    assert alone == {"unsloth_trainer_service", "ezkl_proof_service"}
    alone = {name for name, how in strategies["everything else"].items() if how == "Recreate"}
    assert alone == {"llm_inference_service", "ezkl_proof_service"}


def test_the_database_of_jobs_is_one_for_each_service() -> None:
    found = rendered("everything else")
    [server] = [
        d for d in found if d["kind"] == "Service" and "postgresql" in d["metadata"]["name"]
    ]
    given = variables(container_of(services_of("everything else")["unsloth_trainer_service"]))
    assert given["TRAINER_DATABASE_URL"] == (
        "postgresql://postgres:$(POSTGRES_PASSWORD)"
        f"@{server['metadata']['name']}:5432/unsloth_trainer_service"
    )
    [script] = [
        d["data"] for d in found if d["kind"] == "ConfigMap" and "databases.sql" in d["data"]
    ]
    assert re.findall(r"CREATE DATABASE (\w+);", script["databases.sql"]) == [
        "ezkl_proof_service",
        "unsloth_trainer_service",
    ]


def test_a_node_is_told_of_the_services_that_are_on() -> None:
    from tests.test_node_config import CURRENT, CURRENT_CONTAINER_FIELDS, CURRENT_FIELDS, read

    [config] = [
        json.loads(d["data"]["config.json"])
        for d in rendered("everything else", "ConfigMap")
        if "config.json" in d["data"]
    ]
    assert config.keys() <= CURRENT_FIELDS
    assert config["manage_containers"] is False
    ours = read(CURRENT)
    for name in ("log", "server", "redis", "forward_stats", "startup_wait"):
        assert config[name] == ours[name]
    assert config["chain"].keys() == ours["chain"].keys()
    ports = {
        f"http://{d['metadata']['name']}.ml.svc:{port['port']}"
        for d in rendered("everything else", "Service")
        for port in d["spec"]["ports"]
        if port["name"] == "http"
    }
    assert [container["id"] for container in config["containers"]] == sorted(SERVICES)
    for container in config["containers"]:
        assert container["url"] in ports
        for name, value in container.items():
            assert type(value) is CURRENT_CONTAINER_FIELDS[name]


def test_jobs_go_to_the_cluster_that_is_made_for_them() -> None:
    [cluster] = rendered("everything else", "RayCluster")
    name = cluster["metadata"]["name"]
    container = container_of(services_of("everything else")["unsloth_trainer_service"])
    given = variables(container)
    assert given["TRAINER_EXECUTOR"] == "ray"
    # KubeRay names the head's Service so, cuts longer names, and keeps the token by the cluster's.
    assert given["TRAINER_RAY_ADDRESS"] == f"http://{name}-head-svc:8265"
    assert len(f"{name}-head-svc") <= 50
    [token] = [v["valueFrom"] for v in container["env"] if v["name"] == "TRAINER_RAY_TOKEN"]
    assert token == {"secretKeyRef": {"name": name, "key": "auth_token"}}


@pytest.mark.parametrize(
    "file", sorted((ROOT / "deploy" / "ray").glob("*.yaml")), ids=lambda file: file.stem
)
def test_ray_serves_what_stands_in_a_configuration_of_ours(file: Path) -> None:
    values = {"image": "ray:1", "services": {file.stem: {"serveConfig": file.read_text()}}}
    [service] = [d for d in documents({"ray": values}) if d["kind"] == "RayService"]
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == yaml.safe_load(file.read_text())


def test_ray_serves_the_configuration_that_it_was_given() -> None:
    [service] = rendered("everything else", "RayService")
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == {"applications": [{"name": "llm"}]}
    [job] = rendered("everything else", "RayJob")
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"]) == {"env_vars": {"A": "b"}}
    for cluster in (
        service["spec"]["rayClusterConfig"],
        job["spec"]["rayClusterSpec"],
        rendered("everything else", "RayCluster")[0]["spec"],
    ):
        assert cluster["authOptions"] == {"mode": "token"}
        [workers] = cluster["workerGroupSpecs"]
        limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == 1


# --- values ---------------------------------------------------------------------------------------


def of_trainer(**own: Any) -> dict[str, Any]:
    return {"services": {"unsloth_trainer_service": {"enabled": True, **own}}}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"sevices": {}}, "sevices"),
        ({"services": {"clasic": {"enabled": True}}}, "clasic"),
        (of_trainer(replica=2), "replica"),
        (of_trainer(replicas="two"), "replicas"),
        (of_trainer(env={"TRAINER_JOB_SLOTS": 2}), "TRAINER_JOB_SLOTS"),
        (of_trainer(env={"trainer-slots": "2"}), "trainer-slots"),
        (of_trainer(env={"TRAINER_GRACE_SECONDS": "a while"}), "TRAINER_GRACE_SECONDS"),
        (of_trainer(env={"TRAINER_GRACE_SECONDS": None}), "TRAINER_GRACE_SECONDS"),
        (of_trainer(gpu={"number": 1}), "number"),
        (of_trainer(folders={"output": {"size": "much"}}), "size"),
        (of_trainer(folders={"other": {"size": "1Gi"}}), "path"),
        (of_trainer(database="mysql"), "database"),
        (of_trainer(autoscaling={"perPod": {"Queue": "1"}}), "Queue"),
        (of_trainer(replicas=2), "folders.output.accessMode"),
        (
            of_trainer(
                replicas=2,
                folders={n: {"accessMode": "ReadWriteMany"} for n in ("output", "working")},
            ),
            "set database to postgresql",
        ),
        (of_trainer(database="postgresql"), "postgresql.enabled is false"),
        (
            of_trainer(database="postgresql") | {"postgresql": {"enabled": True}},
            "postgresql.existingSecret",
        ),
        (of_trainer(database="existingSecret"), "TRAINER_DATABASE_URL"),
        (of_trainer(executor="ray"), "jobs on Ray need a database"),
        (of_trainer(env={"TRAINER_DRAIN_DELAY_SECONDS": "60"}), "70 seconds together"),
        ({"ray": {"cluster": {"enabled": True}}}, "ray.image"),
        ({"node": {"config": {"containers": []}}}, "containers"),
    ],
)
def test_values_that_cannot_be_are_refused_with_their_names(
    values: dict[str, Any], told: str
) -> None:
    with pytest.raises(Refused) as refused:
        documents(values)
    assert told in str(refused.value)


def test_the_readme_lists_every_value() -> None:
    """After a change: python -m tests.support.chart."""
    assert readme_parts(README.read_text())[1] == values_table()
