"""Stand-ins for tests that have no cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from meshproof.clients.kubernetes.client import ExecResult, Json, Kube
from meshproof.core import names
from meshproof.core.topology import load_topology
from meshproof.mesh.access import ClusterAccess, Toolbox
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.machine_control import MachineControl
from meshproof.mesh.objects import EndpointFacts, PodFacts, PortFacts, ServiceFacts
from meshproof.mesh.snapshot import ClusterFacts, Snapshot
from meshproof.probes.pod_script import HEADERS


class LocalKube(Kube):
    """Runs what would run in a pod on this machine, and answers requests from a table."""

    def __init__(self, name: str = "local", answers: Mapping[tuple[str, str], Any] | None = None) -> None:
        super().__init__(Path("/nonexistent"), name, name=name)
        self.answers = dict(answers or {})
        self.asked: list[tuple[str, str, object]] = []

    def exec(
        self,
        namespace: str,
        pod: str,
        argv: Sequence[str],
        *,
        container: str | None = None,
        stdin: str | None = None,
        timeout_s: float = 30.0,
    ) -> ExecResult:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, input=stdin or "")
        return ExecResult(stdout=done.stdout, stderr=done.stderr, exit_code=done.returncode)


def toolbox() -> Toolbox:
    return Toolbox(
        istioctl=Path("/bin/false"),
        istio_version="1.31.0",
        hub="docker.io/istio",
        tag="1.31.0",
        images={"app": "app", "client": "client"},
        istio_values={},
        data_plane="none",
    )


def mesh_of(topology: str) -> Mesh:
    loaded = load_topology(topology)
    accesses = tuple(
        ClusterAccess(
            name=c.name, kubeconfig=Path("/nonexistent"), context=c.name, server_for_peers="https://192.0.2.1"
        )
        for c in loaded.clusters
    )
    return Mesh.of(loaded, accesses, toolbox())


def pod(name: str, namespace: str = "ns", address: str = "", **labels: str) -> PodFacts:
    return PodFacts(
        namespace=namespace,
        name=name,
        address=address,
        account="default",
        labels=MappingProxyType(labels),
        revision=None,
        phase="Running",
        ready=True,
        leaving=False,
        proxy_env=MappingProxyType({}),
    )


def row(status: int, *, code: int = 0, message: str = "", **headers: str) -> str:
    """What curl reports of one request; headers with underscores."""
    values = [headers.get(name.replace("-", "_"), "") for name in HEADERS]
    return "\t".join((f"{status:03}", str(code), "0.004", "0.001", *values, message))


def facts_of(cluster: Cluster, number: int, *, pods: int = 1, gateway: bool = True) -> ClusterFacts:
    """A cluster with `pods` ready pods of the application at 10.<number>.0.x and a gateway at 198.18.<number>.1."""
    east_west = ServiceFacts(
        namespace=names.SYSTEM_NAMESPACE,
        name=names.EAST_WEST,
        kind="LoadBalancer",
        labels={},
        addresses=(f"198.18.{number}.1",),
        ports=(PortFacts(name="tls", number=names.PORT_SERVICES),),
    )
    return ClusterFacts(
        cluster=cluster,
        pods=(),
        services=(east_west,) if gateway else (),
        app_endpoints=tuple(
            EndpointFacts(address=f"10.{number}.0.{i}", port=8080, ready=True) for i in range(1, pods + 1)
        ),
        ca=None,
        root_maps={},
    )


def snapshot_of(
    topology: str, *, pods: tuple[int, ...] = (1, 1), gateways: tuple[bool, ...] = (True, True)
) -> Snapshot:
    mesh = mesh_of(topology)
    return Snapshot(
        mesh=mesh,
        facts=tuple(
            facts_of(cluster, number, pods=pods[number - 1], gateway=gateways[number - 1])
            for number, cluster in enumerate(mesh.clusters, start=1)
        ),
    )


def deployment(replicas: int, available: int) -> Json:
    return {
        "metadata": {"name": "istiod", "generation": 1},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 1, "availableReplicas": available},
    }


class FakeLinks(MachineControl):
    """Machines that only remember what was asked of them."""

    identity = "machines of a test"

    def __init__(self) -> None:
        self.done: list[str] = []

    def block(self, client: object, server: object, ports: tuple[int, ...]) -> None:
        self.done.append(f"block {client} {server} {ports}")

    def unblock(self) -> None:
        self.done.append("unblock")

    def restart_api_server(self, cluster: object) -> None:
        self.done.append(f"restart {cluster}")

    def cut(self, a: object, b: object, *, one_way: bool) -> None:
        self.done.append(f"cut {a} {b}{' one way' if one_way else ''}")

    def stop_api_server(self, cluster: object) -> None:
        self.done.append(f"stop API server of {cluster}")

    def start_api_server(self, cluster: object) -> None:
        self.done.append(f"start API server of {cluster}")

    def kill_in_pod(self, cluster: object, pod: str, program: str) -> int:
        self.done.append(f"kill {program} in {pod} of {cluster}")
        return 1

    def freeze(self, cluster: object) -> None:
        self.done.append(f"freeze {cluster}")

    def thaw(self, cluster: object) -> None:
        self.done.append(f"thaw {cluster}")

    def lose(self, cluster: object) -> None:
        self.done.append(f"lose {cluster}")

    def revive(self, cluster: object) -> None:
        self.done.append(f"revive {cluster}")
