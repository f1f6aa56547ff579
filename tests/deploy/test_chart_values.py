"""Values of the chart that Kubernetes, or the service, would refuse later are refused at once."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from tests.deploy.test_chart import FOREIGN_KINDS, NEWEST, of_trainer, pod_templates, variables
from tests.support.chart import Refused, documents

SHARED = {name: {"accessMode": "ReadWriteMany"} for name in ("output", "working")}
CLUSTER = {"image": "ray:1", "cluster": {"enabled": True}}


def of_classic(**own: Any) -> dict[str, Any]:
    return {"services": {"classic_ml_inference_service": {"enabled": True, **own}}}


def on_ray(**own: Any) -> dict[str, Any]:
    given = {"executor": "ray", "database": "existingSecret", "existingSecret": "keys"}
    return of_trainer(**given | own)


def in_output(**own: Any) -> dict[str, Any]:
    return of_trainer(folders={"output": own})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (of_classic(existingSecret="My_Secret!"), "existingSecret"),
        (in_output(existingClaim="A_B"), "existingClaim"),
        ({"serviceAccount": {"name": "a b"}}, "/serviceAccount/name"),
        ({"image": {"tag": "no tag!"}}, "/image/tag"),
        ({"image": {"pullSecrets": [""]}}, "/image/pullSecrets/0"),
        (of_classic(gpu={"count": 1, "runtimeClassName": "N V"}), "runtimeClassName"),
        (of_classic(resources={"requests": {"cpu": "1.5.2"}}), "resources/requests/cpu"),
        (in_output(size="1.2.3Gi"), "folders/output/size"),
        ({"postgresql": {"size": ""}}, "/postgresql/size"),
        (of_classic(replicas=10**12), "replicas"),
        (of_classic(autoscaling={"perPod": {"requests_in_flight": "0"}}), "requests_in_flight"),
        (in_output(path="/"), "folders/output/path"),
        (in_output(path="/mnt/../etc"), "folders/output/path"),
        (in_output(path="/mnt/a\n  evil: 1"), "folders/output/path"),
        (in_output(subPath="../other"), "folders/output/subPath"),
        (of_trainer(folders={"tmp": {"path": "/mnt/x"}}), "'tmp'"),
        (in_output(path="/mnt/working/"), "there is a folder at /mnt/working already"),
        (in_output(path="/tmp"), "there is a folder at /tmp already"),  # noqa: S108
        (
            of_classic(resources={"requests": {"memory": "4Gi"}}),
            "requests.memory is 4Gi and limits.memory is 2Gi",
        ),
        (
            of_classic(resources={"requests": {"cpu": "1500m"}, "limits": {"cpu": 1}}),
            "requests.cpu is 1500m and limits.cpu is 1;",
        ),
        (
            of_classic(autoscaling={"enabled": True, "minReplicas": 5, "maxReplicas": 2}),
            "minReplicas is 5 and maxReplicas is 2",
        ),
        (of_classic(autoscaling={"enabled": True, "cpuUtilization": 0}), "nothing to go by"),
        (of_trainer(env={"TRAINER_EXECUTOR": "ray"}), "TRAINER_EXECUTOR: set executor"),
        (
            of_trainer(env={"TRAINER_DATABASE_URL": "postgresql://a:b@c/d"}),
            "TRAINER_DATABASE_URL: it has a password",
        ),
        (
            on_ray(env={"TRAINER_RAY_ADDRESS": "http://other:8265"}) | {"ray": CLUSTER},
            "TRAINER_RAY_ADDRESS: ray.cluster has its own",
        ),
        (
            on_ray(existingSecret="", database="postgresql", folders=SHARED)
            | {"postgresql": {"enabled": True, "existingSecret": "p"}},
            "set ray.cluster.enabled, or TRAINER_RAY_ADDRESS",
        ),
        (
            on_ray(folders=SHARED) | {"ray": CLUSTER | {"tokenAuthentication": False}},
            "set ray.tokenAuthentication to true",
        ),
        (on_ray(), "jobs on Ray need folders that several nodes can write"),
        ({"ray": CLUSTER | {"workers": {"replicas": 9}}}, "replicas 9 and maxReplicas 4"),
        ({"ray": CLUSTER | {"workers": {"minReplicas": 2}}}, "minReplicas is 2, replicas 1"),
        ({"ray": {"image": "a", "services": {"x": {"serveConfig": "a: [b"}}}}, "x.serveConfig"),
        ({"ray": {"image": "a", "services": {"x": {"serveConfig": "text"}}}}, "x.serveConfig"),
        (
            {"ray": {"image": "a", "jobs": {"x": {"entrypoint": "a", "runtimeEnv": "[b"}}}},
            "x.runtimeEnv",
        ),
        (
            {"node": {"enabled": True, "config": {"chain": {"wallet": {"private_key": "0x1"}}}}},
            "node.config.chain.wallet.private_key is a secret",
        ),
        (
            {"node": {"enabled": True, "config": {"docker": {"password": "a"}}}},
            "node.config.docker.password is a secret",
        ),
    ],
)  # fmt: skip
def test_what_would_fail_in_the_cluster_is_refused_before(
    values: dict[str, Any], told: str
) -> None:
    with pytest.raises(Refused) as refused:
        documents(values)
    assert told in " ".join(str(refused.value).split())


@pytest.mark.parametrize("name", ["123", "yes", "null", "1e3"])
def test_a_name_that_yaml_would_read_as_another_thing_stays_a_name(name: str) -> None:
    values = of_trainer(
        existingSecret=name,
        gpu={"count": 1, "runtimeClassName": name},
        env={"Y": "no"},
        folders={
            name: {"path": "/mnt/more"},
            "input": {"existingClaim": name, "subPath": name},
            "output": {"storageClassName": name},
        },
    ) | {
        "image": {"tag": name, "pullSecrets": [name]},
        "serviceAccount": {"name": name},
        "metrics": {"serviceMonitor": {"enabled": True, "keySecret": name, "keySecretKey": name}},
        "postgresql": {"enabled": True, "existingSecret": name, "storageClassName": name},
        "ray": {
            "image": name,
            "existingSecret": name,
            "cluster": {"enabled": True},
            "folders": {"output": {"path": "/mnt/output", "existingClaim": name}},
        },
    }
    for document in documents(values):
        if document["kind"] not in FOREIGN_KINDS:
            kubernetes_validate.validate(document, NEWEST, strict=True)
        for template in pod_templates(document):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
            kubernetes_validate.validate(pod | {"spec": template["spec"]}, NEWEST, strict=True)


def test_several_trainers_with_files_at_an_address_need_no_common_folder() -> None:
    own = {"folders": {name: {"size": ""} for name in ("output", "working")}, "replicas": 2}
    address = {"TRAINER_FILES_URL": "s3://bucket/folder"}
    found = documents(on_ray(env=address, **own) | {"ray": CLUSTER})
    [container] = [
        template["spec"]["containers"][0]
        for document in found
        if document["kind"] == "Deployment" and "trainer" in document["metadata"]["name"]
        for template in pod_templates(document)
    ]
    assert variables(container).items() >= address.items()


def test_a_tag_that_is_longer_than_a_label_is_cut_there_and_not_in_the_image() -> None:
    tag = "b" * 62 + "-" + "c" * 10
    for document in documents({"image": {"tag": tag}}):
        assert document["metadata"]["labels"]["app.kubernetes.io/version"] == "b" * 62
        for template in pod_templates(document):
            assert template["spec"]["containers"][0]["image"].endswith(f":{tag}")
