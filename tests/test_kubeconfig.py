"""The provider for clusters that exist, against small servers on loopback: what is asked, and what is told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.clients.kubernetes.rbac import NEEDED, AccessRule, missing_rights
from meshproof.core.errors import BadInput, Unavailable
from meshproof.core.model import ClusterName
from meshproof.core.progress import Silent
from meshproof.core.topology import load_topology
from meshproof.mesh.handles import Mesh
from meshproof.providers import kubeconfig as provider
from meshproof.providers.contexts import Attachment, NamedContext
from meshproof.providers.kubeconfig import hub_and_tag, open_kubeconfig
from tests.api_server import Answer, Server, kubeconfig

TOPOLOGY = load_topology("multi-primary-multinet")
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
EVERYTHING = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]


def pod(container: str, image: str, **labels: str) -> Json:
    containers = [{"name": "istio-proxy", "image": "proxy"}, {"name": container, "image": image}]
    return {"metadata": {"labels": labels}, "spec": {"containers": containers}}


PODS = {
    "istio-system": pod("discovery", "registry.example:5000/istio/pilot:1.31.0"),
    "meshproof-clients": pod("client", "client:1"),
    "meshproof-app": pod("mockshop", "envoy:1"),
}


class Cluster(Server):
    """A cluster with a mesh on it, that lets its user do what `rules` say; `uid` tells it from others."""

    def __init__(self, uid: str) -> None:
        super().__init__()
        self.rules: list[Json] = EVERYTHING
        self.pods = dict(PODS)
        self.status = 200

        def reply(_: str, path: str, __: dict[str, str]) -> Answer:
            if self.status != 200:
                return self.status, [{"message": "Unauthorized"}]
            if path == REVIEW:
                return 201, [{"status": {"resourceRules": self.rules, "incomplete": False}}]
            if path.endswith("/selfsubjectaccessreviews"):
                return 201, [{"status": {"allowed": False}}]
            if path == "/api/v1/pods":
                return 200, [{"items": []}]
            if path.endswith("/pods"):
                found = self.pods.get(path.split("/")[4])
                return 200, [{"items": [found] if found else []}]
            if path.endswith("/namespaces/kube-system"):
                return 200, [{"metadata": {"name": "kube-system", "uid": uid}}]
            return 200, [{"gitVersion": "v1.36.1"}]

        self.reply = reply


@pytest.fixture
def east() -> Iterator[Cluster]:
    server = Cluster("east")
    yield server
    server.close()


@pytest.fixture
def west() -> Iterator[Cluster]:
    server = Cluster("west")
    yield server
    server.close()


def attachment(*files: Path, images: dict[str, str] | None = None, **contexts: str) -> Attachment:
    return Attachment(
        files=files,
        source="--kubeconfig=files",
        contexts={
            ClusterName(name): NamedContext(name=context, source=f"--context={name}={context}")
            for name, context in contexts.items()
        },
        istioctl=None,
        images=images or {},
    )


@pytest.fixture
def both(tmp_path: Path, east: Cluster, west: Cluster) -> Attachment:
    """Two files, one context each: one named by an option, the other called as its cluster is."""
    (tmp_path / "token").write_text("from-a-file\n")
    first = kubeconfig(tmp_path, east.url, name="arn:east", user={"tokenFile": "token"})
    plugin = tmp_path / "login"
    made = {"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": {"token": "from-exec"}}
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(made)}'\n")
    plugin.chmod(0o755)
    user = {"exec": {"apiVersion": made["apiVersion"], "command": str(plugin), "interactiveMode": "Never"}}
    second = kubeconfig(tmp_path, west.url, name="cluster2", user=user)
    return attachment(first, second, cluster1="arn:east")


def refusal(chosen: Attachment) -> str:
    with pytest.raises(BadInput) as caught, open_kubeconfig(chosen, TOPOLOGY, Silent()):
        pass
    return str(caught.value)


def test_clusters_are_found_in_several_files_with_tokens_and_exec_plugins(
    both: Attachment, east: Cluster, west: Cluster
) -> None:
    with open_kubeconfig(both, TOPOLOGY, Silent()) as clusters:
        found = clusters.clusters
        assert [(c.name, c.context, c.server_for_peers) for c in found] == [
            ("cluster1", "arn:east", east.url),
            ("cluster2", "cluster2", west.url),
        ]
        assert (clusters.name, clusters.machine_control, clusters.problems()) == ("kubeconfig", None, ())
        toolbox = clusters.toolbox
        assert (toolbox.hub, toolbox.istio_version) == ("registry.example:5000/istio", "1.31.0")
        assert toolbox.images == {"client": "client:1", "app": "envoy:1"}
        clusters.connect(TOPOLOGY)  # the clusters' network is not ours
        mesh = Mesh.of(TOPOLOGY, found, toolbox)
        assert [cluster.kube for cluster in mesh.clusters] == [access.kube for access in found], "one client each"
    assert east.credentials == {"Bearer from-a-file"}
    assert west.credentials == {"Bearer from-exec"}


def test_nothing_but_reviews_is_written(both: Attachment, east: Cluster) -> None:
    with open_kubeconfig(both, TOPOLOGY, Silent()):
        pass
    assert {path for method, path, _ in east.asked if method != "GET"} == {REVIEW}


def test_a_context_that_is_not_there_lists_those_that_are(both: Attachment) -> None:
    told = refusal(attachment(*both.files, cluster1="arn:east", cluster2="w"))
    assert told == (
        "--context=cluster2=w: there is no context w\n"
        "  repair: name another; contexts in --kubeconfig=files: arn:east, cluster2"
    )
    told = refusal(attachment(*both.files))
    assert told == (
        "cluster cluster1: its context is unknown\n"
        "  repair: use --context=cluster1=CONTEXT; contexts in --kubeconfig=files: arn:east, cluster2"
    )


@pytest.mark.parametrize("text", ["", "a: [", "just words", "contexts: [{named: x}]", "contexts: 7"])
def test_a_file_that_is_no_kubeconfig_is_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(f"{text}\n# token: secret")
    told = refusal(attachment(path))
    assert told == f"kubeconfig {path}: it is not a kubeconfig\n  repair: name another one"


def test_a_server_that_does_not_answer_is_named(both: Attachment, tmp_path: Path) -> None:
    gone = kubeconfig(tmp_path, "http://127.0.0.1:9", name="gone")
    told = refusal(attachment(both.files[1], gone, cluster1="gone"))
    assert told.startswith("context gone for cluster1: its API server http://127.0.0.1:9 does not respond: ")
    assert told.endswith(
        "repair: check with `kubectl --context=gone get namespaces`: VPN, proxy, or a deleted cluster?"
    )


def test_credentials_that_are_refused_are_named(both: Attachment, east: Cluster) -> None:
    east.status = 401
    assert refusal(both) == (
        f"context arn:east for cluster1: its API server {east.url} rejects these credentials "
        "(HTTP 401: Unauthorized)\n"
        "  repair: log in again; check with `kubectl --context=arn:east get namespaces`"
    )


def test_all_rights_that_are_missing_are_listed_at_once(both: Attachment, east: Cluster, west: Cluster) -> None:
    without = [rule.as_rbac() for rule in NEEDED if "namespaces" not in rule.resources]
    others = ["services", "configmaps", "serviceaccounts", "pods"]
    east.rules = [*without, {"apiGroups": [""], "resources": others, "verbs": ["*"]}]
    east.rules.append({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch", "delete"]})
    west.rules = [rule.as_rbac() for rule in NEEDED if rule.resources != ("pods/exec",)]
    west.rules.append({"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["*"], "resourceNames": ["one"]})
    assert refusal(both) == (
        "rights on the clusters: some are missing:\n"
        "  - context arn:east for cluster1 may not create namespaces, patch namespaces\n"
        "  - context cluster2 for cluster2 may not get pods/exec, create pods/exec\n"
        "  repair: apply deploy/clusterrole.yaml (docs/attach.md)"
    )


def test_rights_by_wildcards_count(west: Cluster, tmp_path: Path) -> None:
    kube = Kube(kubeconfig(tmp_path, west.url), "c")
    rules = (AccessRule(group="", resources=("pods/exec",), verbs=("create",)),)
    west.rules = [{"apiGroups": [""], "resources": ["*/exec"], "verbs": ["create"]}]
    assert missing_rights(kube, rules) == []
    assert kube.calls == 1
    west.rules = [{"apiGroups": ["apps"], "resources": ["*"], "verbs": ["*"]}]
    assert missing_rights(kube, rules) == ["create pods/exec"]


def test_two_contexts_of_one_cluster_are_no_two_clusters(both: Attachment, east: Cluster, tmp_path: Path) -> None:
    alias = kubeconfig(tmp_path, east.url, name="alias")
    assert refusal(attachment(*both.files, alias, cluster1="arn:east", cluster2="alias")) == (
        "contexts arn:east and alias: both are the same cluster, but cluster1 and cluster2 must be different\n"
        "  repair: name the contexts with --context=cluster2=CONTEXT"
    )


def test_without_pods_to_copy_from_images_must_be_named(both: Attachment, east: Cluster, west: Cluster) -> None:
    for cluster in (east, west):
        del cluster.pods["meshproof-app"]
    assert refusal(both) == (
        "images of the app probes: no pod on these clusters has a suitable image: the mesh has no running proxy "
        "to take one from\n"
        "  repair: use --app-image=IMAGE (pytest --help lists what must be in it)"
    )
    named = attachment(*both.files, images={"app": "mine:1"}, cluster1="arn:east")
    with open_kubeconfig(named, TOPOLOGY, Silent()) as clusters:
        assert clusters.toolbox.images == {"app": "mine:1", "client": "client:1"}


def test_istioctl_is_the_one_in_path_else_the_labs_else_there_is_none(
    both: Attachment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(provider, "built", lambda name: Path("/cache") / name)
    with open_kubeconfig(both, TOPOLOGY, Silent()) as clusters:
        assert clusters.toolbox.require_istioctl() == Path("/cache/istioctl")
    monkeypatch.setattr(provider, "built", lambda _: None)
    with open_kubeconfig(both, TOPOLOGY, Silent()) as clusters, pytest.raises(Unavailable, match="--istioctl"):
        clusters.toolbox.require_istioctl()
    (tmp_path / "istioctl").touch(mode=0o755)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with open_kubeconfig(both, TOPOLOGY, Silent()) as clusters:
        assert clusters.toolbox.istioctl == tmp_path / "istioctl"


def test_of_several_istiods_that_of_the_topologys_revision_counts(
    both: Attachment, east: Cluster, west: Cluster
) -> None:
    for cluster, tag, revision in ((east, "1.30.0", "1-30"), (west, "1.31.0", "default")):
        cluster.pods["istio-system"] = pod("discovery", f"istio/pilot:{tag}", **{"istio.io/rev": revision})
    with open_kubeconfig(both, TOPOLOGY, Silent()) as clusters:
        assert clusters.toolbox.istio_version == "1.31.0"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("istio/pilot:1.31.0-distroless", ("istio", "1.31.0-distroless")),
        ("pilot", ("", "")),
        ("registry.example:5000/a/b/pilot@sha256:12", ("registry.example:5000/a/b", "sha256:12")),
        ("registry.example/pilot:1@sha256:12", ("registry.example", "1")),
    ],
)
def test_hub_and_tag_of_an_image(image: str, expected: tuple[str, str]) -> None:
    assert hub_and_tag(image) == expected
