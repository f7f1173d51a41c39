"""A verify pass as a Job in one of the clusters: the very manifests of deploy/, and results that come back."""

from __future__ import annotations

import base64
import io
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest
import yaml
from kubernetes import client
from kubernetes.stream import stream

from meshproof.claims.required import FLOOR
from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.progress import Narrator
from meshproof.core.topology import load_topology
from meshproof.core.waiting import NotYet, eventually
from meshproof.install.lifecycle import install_mesh, uninstall_mesh
from meshproof.install.marker import MARKER
from meshproof.install.removal import remove_these_namespaces
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.providers.lab.api import Lab
from tests.containerfile import TOP

from .runner_image import load, write_image
from .test_install_lab import TOPOLOGY
from .visits import WITHHELD

pytestmark = pytest.mark.lab

DEPLOY: Final = TOP / "deploy"
NAMESPACE: Final = "meshproof"

JOB: Final[Json] = yaml.safe_load(
    (DEPLOY / "job.yaml").read_text().replace("value: primary-remote-multinet", "value: /etc/meshproof/mesh.yaml")
)
"""With the topology from the Secret, since the clusters are called otherwise here."""
IMAGE: Final = JOB["spec"]["template"]["spec"]["containers"][0]["image"]

SKIPPED: Final = {
    *WITHHELD,
    "CONTROL-01",  # of it only the second half can be seen on a mesh that is there
    "CONTROL-06",  # the image has no istioctl
}
"""What a verify pass cannot prove, wherever it runs. Whatever is asked from "this machine" is not among it."""


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[Path]]:
    """The image, made while the mesh is."""
    target = tmp_path_factory.mktemp("image") / "image.tar"
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool.submit(lambda: write_image(f"docker.io/library/{IMAGE}", target))
    target.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def mesh(lab: Lab, tmp_path_factory: pytest.TempPathFactory, narrator: Narrator) -> Iterator[Mesh]:
    """A mesh as others have one, with the demonstration service and clients, whose images the probes take."""
    path = tmp_path_factory.mktemp("topology") / "mesh.yaml"
    path.write_text(TOPOLOGY)
    topology = load_topology(str(path))
    lab.connect(topology)
    made = Mesh.of(topology, lab.clusters, lab.toolbox)
    try:
        install_mesh(made, narrator)
        for cluster in made.clusters:
            cluster.kube.delete("ConfigMap", MARKER, names.OUTSIDE_NAMESPACE)
        yield made
    finally:
        uninstall_mesh(made, narrator)
        together(lambda c: remove_these_namespaces(c.kube, [NAMESPACE], aborted=threading.Event()), made.clusters)


@pytest.fixture
def accounts(mesh: Mesh) -> Iterator[None]:
    """deploy/clusterrole.yaml and deploy/account.yaml in each cluster."""
    files = ("clusterrole.yaml", "account.yaml")
    manifests = [manifest for file in files for manifest in yaml.safe_load_all((DEPLOY / file).read_text())]
    together(lambda cluster: [cluster.kube.apply(manifest) for manifest in manifests], mesh.clusters)
    yield
    for cluster in mesh.clusters:
        for manifest in manifests:  # the namespace with its account ends while the mesh goes
            if manifest["kind"] != "ServiceAccount":
                cluster.kube.delete(manifest["kind"], manifest["metadata"]["name"])


def kubeconfig(here: Cluster, there: Cluster) -> str:
    """deploy/kubeconfig.yaml with what docs/inside.md says how to find."""
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/meshproof/token"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    root = there.kube.find("ConfigMap", "kube-root-ca.crt", NAMESPACE)
    assert root is not None
    values = {
        "@SERVER@": there.access.server_for_peers,
        "@CA@": base64.b64encode(root["data"]["ca.crt"].encode()).decode(),
        "@TOKEN@": there.kube.post(path, asked)["status"]["token"],
        "cluster1": str(here),
        "cluster2": str(there),
    }
    text = (DEPLOY / "kubeconfig.yaml").read_text()
    for old, new in values.items():
        assert old in text
        text = text.replace(old, new)
    return text


def pod_of_the_job(kube: Kube) -> Json:
    pods = kube.list("Pod", NAMESPACE, labels="job-name=meshproof")
    if not pods:
        raise NotYet("no pod")
    assert len(pods) == 1, "it is tried once"
    return pods[0]


def ended(kube: Kube) -> str:
    """The name of the pod, when the run has ended."""
    pod = pod_of_the_job(kube)
    states = {status["name"]: status["state"] for status in pod["status"].get("containerStatuses", [])}
    if "terminated" not in states.get("run", {}):
        raise NotYet(f"{pod['status']['phase']} {states}")
    assert "running" in states["results"]
    return str(pod["metadata"]["name"])


def fetched(kube: Kube, pod: str) -> dict[str, bytes]:
    """The files that `kubectl exec … fetch` writes."""
    with client.ApiClient(kube._api.configuration) as api:
        session = stream(
            client.CoreV1Api(api).connect_get_namespaced_pod_exec,
            *(pod, NAMESPACE),
            container="results",
            command=["python", "-m", "meshproof.cli.in_cluster", "fetch"],
            stdout=True,
            stderr=True,
            stdin=False,
            tty=False,
            binary=True,
            _preload_content=False,
        )
        session.run_forever(timeout=60)
        content, errors = session.read_stdout(timeout=0), session.read_stderr(timeout=0)
        assert (session.returncode, errors) == (0, b"")
        session.close()
        session.sock.shutdown()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name.removeprefix("reports/"): file.read() for name, file in files.items() if file is not None}


def completed(kube: Kube) -> None:
    conditions = kube.get(f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/meshproof")["status"].get("conditions", [])
    told = {condition["type"]: condition["status"] for condition in conditions}
    assert "Failed" not in told, conditions
    if told.get("Complete") != "True":
        raise NotYet(f"{told}")


def test_a_job_in_one_cluster_proves_the_mesh(
    lab: Lab, tarball: Future[Path], mesh: Mesh, accounts: None, narrator: Narrator
) -> None:
    here, there = mesh.clusters
    with narrator.step("the image of deploy/Containerfile, made"):
        image = tarball.result(timeout=120)
    with narrator.step("the image, unpacked in one cluster"):
        load(lab, here.name, image)
    secret = {"config": kubeconfig(here, there), "mesh.yaml": TOPOLOGY}
    meta = {"name": "meshproof-kubeconfig", "namespace": NAMESPACE}
    here.kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": secret})
    with narrator.step("deploy/job.yaml"):
        jobs = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
        here.kube.request("POST", jobs, body=JOB, query={"fieldValidation": "Strict"})
        pod = eventually(lambda: ended(here.kube), what="the run", timeout_s=200)
        log = here.kube.logs(NAMESPACE, pod, container="run", tail_lines=2000)
    came = fetched(here.kube, pod)
    print(log)
    must_be_a_full_verdict(yaml.safe_load(came["verdict.yaml"]), log)
    must_be_junit_of(came)
    results = [name for name in came if name.startswith("allure-results/") and name.endswith("-result.json")]
    assert len(results) == len(FLOOR)
    assert not any(token in text for text in came.values() for token in tokens(secret["config"]))
    eventually(lambda: completed(here.kube), what="the Job", timeout_s=30)


def must_be_a_full_verdict(verdict: dict[str, Any], log: str) -> None:
    """Every claim is proven that a verify pass can prove, and the log ends with the same verdict."""
    (topology,) = verdict["topologies"].values()
    assert set(topology["claims"]) == set(FLOOR)
    results = {code: row["result"] for code, row in topology["claims"].items()}
    elsewhere = {code for code, result in results.items() if result == "NOT_APPLICABLE"}
    assert {code for code, result in results.items() if result == "SKIPPED"} == SKIPPED - elsewhere
    assert set(results.values()) == {"SUCCEEDED", "SKIPPED", "NOT_APPLICABLE"}
    assert (verdict["go"], verdict["missing"], verdict["provider"]) == (True, [], "kubeconfig")
    *_, told, end = log.split("---\n")
    assert yaml.safe_load(told) == verdict
    assert end == "meshproof: exit code 0\n"


def must_be_junit_of(came: dict[str, bytes]) -> None:
    for name, cases in (("junit.xml", len(FLOOR)), ("run.xml", 1)):
        found = list(ElementTree.fromstring(came[name]).iter("testcase"))
        assert len(found) == cases
        assert not [case for case in found if case.find("failure") is not None or case.find("error") is not None]


def tokens(config: str) -> list[bytes]:
    return [user["user"]["token"].encode() for user in yaml.safe_load(config)["users"] if "token" in user["user"]]
