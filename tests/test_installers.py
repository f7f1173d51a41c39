"""Installations by the documentation: which commands run on which cluster, in which order, with which values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshproof.calibration.installers import by_charts, by_istioctl, documented
from meshproof.calibration.installers.by_charts import ChartInstall
from meshproof.calibration.installers.by_gateway_api import GatewayApiInstall
from meshproof.calibration.installers.by_istioctl import IstioctlInstall
from meshproof.calibration.installers.documented import CA_FILES, DocumentedInstall
from meshproof.clients.istio.istioctl import Istioctl
from meshproof.clients.kubernetes.client import Json
from meshproof.core.progress import Silent
from meshproof.core.topology import load_topology
from meshproof.mesh.handles import Mesh
from tests.install_fakes import FakeKube, fake_mesh, fake_of

SAMPLE = {"kind": "Gateway", "apiVersion": "networking.istio.io/v1", "spec": {}}
SCRIPTED = {"spec": {"profile": "empty", "values": {"global": {"network": "network1"}}}}


class Commands:
    """Stands for programs: remembers what was run, as `(program, cluster, words)`, and the values given to it."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.ran: list[str] = []
        self.values: list[Json] = []

    def run(self, argv: Sequence[str | Path], *, stdin: str = "", **_: Any) -> str:
        words = [str(word) for word in argv]
        if words[0] == "make":
            target = self.work / words[-1].removesuffix("-cacerts")
            target.mkdir(exist_ok=True)
            for name in CA_FILES:
                (target / name).write_text(name)
            self.ran.append(f"make {words[-1]}")
            return ""
        if words[0] == "bash":
            self.ran.append(f"script for {words[-1]}")
            return yaml.safe_dump(SCRIPTED)
        context = next(word for word in words if word.startswith("--kube-context=")).partition("=")[2]
        self.ran.append(f"helm {words[2]} in {context}")
        self.values.append(yaml.safe_load(stdin))
        return ""

    def install(self, istioctl: Istioctl, operator: Json, **_: Any) -> str:
        self.ran.append(f"istioctl install {operator['spec'].get('profile')} in {istioctl.context}")
        self.values.append(operator["spec"])
        return ""

    def secret(self, istioctl: Istioctl, name: str, server: str, **_: Any) -> Json:
        self.ran.append(f"remote secret of {istioctl.context}")
        meta = {"name": f"istio-remote-secret-{name}", "namespace": "istio-system"}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": meta}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    found = Commands(tmp_path)
    for module in (documented, by_istioctl, by_charts):
        monkeypatch.setattr(module, "run", found.run)
    monkeypatch.setattr(documented, "external_address", lambda *_, **__: "192.0.2.1")
    monkeypatch.setattr(Istioctl, "install", lambda *given, **more: found.install(*given, **more))
    monkeypatch.setattr(Istioctl, "create_remote_secret", lambda *given, **more: found.secret(*given, **more))
    samples = tmp_path / "samples/multicluster"
    samples.mkdir(parents=True)
    for name in ("expose-istiod", "expose-services"):
        (samples / f"{name}.yaml").write_text(yaml.safe_dump(SAMPLE | {"metadata": {"name": name}}))
    return found


def installed(topology: str, commands: Commands, way: Callable[..., DocumentedInstall], **options: Any) -> Mesh:
    mesh = fake_mesh(load_topology(topology))
    way(mesh, commands.work, commands.work, Silent(), **options).run()
    return mesh


def samples_in(mesh: Mesh) -> list[list[str]]:
    names = ("expose-istiod", "expose-services")
    return [
        [name for name in names if fake_of(cluster).find("Gateway", name, "istio-system")] for cluster in mesh.clusters
    ]


def test_primary_remote_by_istioctl_follows_the_pages(commands: Commands) -> None:
    mesh = installed("primary-remote-multinet", commands, IstioctlInstall)
    assert commands.ran == [
        "make root-ca",
        "make cluster1-cacerts",
        "make cluster2-cacerts",
        "istioctl install default in cluster1",
        "script for network1",
        "istioctl install empty in cluster1",
        "istioctl install remote in cluster2",
        "remote secret of cluster2",
        "script for network2",
        "istioctl install empty in cluster2",
    ]
    assert samples_in(mesh) == [["expose-istiod", "expose-services"], []]
    primary, _, remote, _ = commands.values
    assert primary["values"]["global"]["externalIstiod"] is True
    assert remote["values"]["global"]["remotePilotAddress"] == "192.0.2.1"
    assert remote["values"]["istiodRemote"]["injectionPath"] == "/inject/cluster/cluster2/net/network2"
    first, second = (fake_of(cluster) for cluster in mesh.clusters)
    assert first.find("Secret", "istio-remote-secret-cluster2", "istio-system")
    namespace = second.find("Namespace", "istio-system")
    assert namespace is not None
    assert namespace["metadata"]["annotations"] == {"topology.istio.io/controlPlaneClusters": "cluster1"}
    assert namespace["metadata"]["labels"] == {"topology.istio.io/network": "network2"}


def test_on_one_network_nothing_is_labelled_or_exposed_but_istiod(commands: Commands) -> None:
    mesh = installed("primary-remote-samenet", commands, IstioctlInstall)
    assert samples_in(mesh) == [["expose-istiod"], []]
    assert commands.ran.count("script for network1") == 1
    commands.ran.clear()
    mesh = installed("multi-primary-samenet", commands, IstioctlInstall)
    assert samples_in(mesh) == [[], []]
    assert commands.ran[-2:] == ["remote secret of cluster2", "remote secret of cluster1"]
    namespace = fake_of(mesh.clusters[0]).find("Namespace", "istio-system")
    assert namespace is not None
    assert namespace["metadata"]["labels"] == {}


def test_charts_bring_an_ingress_gateway_of_their_own_namespace(commands: Commands) -> None:
    installed("multi-primary-multinet", commands, ChartInstall, helm=Path("helm"))
    assert [each for each in commands.ran if "cluster1" in each and each.startswith("helm")] == [
        "helm istio-base in cluster1",
        "helm istiod in cluster1",
        "helm istio-ingress in cluster1",
        "helm istio-eastwestgateway in cluster1",
    ]
    _, istiod, _, east_west, *_ = commands.values
    assert istiod["global"]["multiCluster"] == {"clusterName": "cluster1"}
    assert "meshConfig" in istiod
    gateway = {"name": "istio-eastwestgateway", "networkGateway": "network1"}
    assert east_west == {"imagePullPolicy": "IfNotPresent"} | gateway


def test_a_remote_by_charts_has_the_remote_profile_and_no_ingress_gateway(commands: Commands) -> None:
    installed("primary-remote-multinet", commands, ChartInstall, helm=Path("helm"))
    remote = [each for each in commands.ran if "cluster2" in each and each.startswith("helm")]
    assert remote == [
        "helm istio-base in cluster2",
        "helm istiod in cluster2",
        "helm istio-eastwestgateway in cluster2",
    ]
    base, istiod, _ = commands.values[-3:]
    assert base == {"profile": "remote"}
    assert (istiod["profile"], istiod["global"]["configCluster"]) == ("remote", True)


def test_gateways_of_the_gateway_api_have_their_listeners(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    created: list[Json] = []
    real = FakeKube.request

    def request(kube: FakeKube, method: str, path: str, **options: Any) -> bytes:
        if path.startswith("/apis/gateway.networking.k8s.io/"):
            created.append(options["body"])
            return b""
        return real(kube, method, path, **options)

    monkeypatch.setattr(FakeKube, "request", request)
    crds = commands.work / "config/crd/standard"
    crds.mkdir(parents=True)
    (crds / "gateways.yaml").write_text(
        yaml.safe_dump({"kind": "CustomResourceDefinition", "metadata": {"name": "gateways"}})
    )
    mesh = installed("multi-primary-multinet", commands, GatewayApiInstall, gateway_api=commands.work)
    assert fake_of(mesh.clusters[1]).find("CustomResourceDefinition", "gateways")
    assert "istioctl install minimal in cluster2" in commands.ran
    ingress, east_west = created[:2]
    assert ingress["spec"]["listeners"][0]["allowedRoutes"] == {"namespaces": {"from": "All"}}
    assert east_west["metadata"]["labels"] == {"topology.istio.io/network": "network1"}
    assert east_west["spec"]["listeners"][0]["tls"]["options"] == {
        "gateway.istio.io/listener-protocol": "auto-passthrough"
    }
    assert samples_in(mesh) == [[], []]
