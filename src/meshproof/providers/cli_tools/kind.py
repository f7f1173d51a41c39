"""Clusters created with kind: one node container each, MetalLB for their gateways, routes between those on one
network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import combinations
from typing import Final

import yaml

from meshproof.core.errors import BadInput, Broken
from meshproof.core.model import ClusterName, Topology
from meshproof.providers.cli_tools.clusters import RunFolder
from meshproof.providers.cli_tools.commands import Command, Runner, Tool, try_all
from meshproof.providers.cli_tools.settings import DOCKER, KIND_VARIABLE, PODMAN

NAME: Final = "kind"
METALLB_VERSION: Final = "v0.15.3"
METALLB: Final = (
    f"https://raw.githubusercontent.com/metallb/metallb/{METALLB_VERSION}/config/manifests/metallb-native.yaml"
)
METALLB_NAMESPACE: Final = "metallb-system"
NO_LOAD_BALANCER: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
API_PORT: Final = 6443
"""The API server's port in a node container, independent of its port on this machine."""
POOL_SIZE: Final = 16
READY_S: Final = 180

KIND_TOOL: Final = Tool(name="kind", repair="install kind (kind.sigs.k8s.io, quick start)")
KUBECTL_TOOL: Final = Tool(name="kubectl", repair="install kubectl (kubernetes.io, install tools)")
RUNTIME_TOOLS: Final = {
    DOCKER: Tool(name=DOCKER, repair=f"install Docker, or Podman and set {KIND_VARIABLE}={PODMAN}"),
    PODMAN: Tool(name=PODMAN, repair=f"install Podman, or unset {KIND_VARIABLE} for Docker"),
}


def runtime_of(named: str) -> str:
    """The container runtime: the given one, else Docker, else Podman if only that is installed."""
    if named:
        return named
    return PODMAN if shutil.which(DOCKER) is None and shutil.which(PODMAN) is not None else DOCKER


def tools(runtime: str) -> tuple[Tool, ...]:
    return (KIND_TOOL, RUNTIME_TOOLS[runtime], KUBECTL_TOOL)


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCluster:
    """One planned cluster: its position in the topology from 1, its name for kind, and its ranges."""

    place: int
    name: str
    pods: IPv4Network
    services: IPv4Network

    @property
    def node(self) -> str:
        """The container of its only node."""
        return f"{self.name}-control-plane"

    @property
    def config(self) -> str:
        """For `kind create cluster --config` (kind, configuration)."""
        networking = {"podSubnet": str(self.pods), "serviceSubnet": str(self.services)}
        document = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "networking": networking}
        return yaml.safe_dump(document, sort_keys=False)


def plan_clusters(run: str, topology: Topology) -> dict[ClusterName, KindCluster]:
    """Names and ranges. Pods have the topology's ranges, else 10.(128+n).0.0/16; services 10.n.0.0/16.

    Raises `BadInput` if any of these ranges overlap: the nodes share one network.
    """
    planned = {
        spec.name: KindCluster(
            place=place,
            name=f"meshproof-{run}-{spec.name}",
            pods=IPv4Network(spec.pods or f"10.{128 + place}.0.0/16"),
            services=IPv4Network(f"10.{place}.0.0/16"),
        )
        for place, spec in enumerate(topology.clusters, start=1)
    }
    ranges = [(f"{kind} of {name}", r) for name, c in planned.items() for kind, r in _ranges(c).items()]
    for (one, a), (other, b) in combinations(ranges, 2):
        if a.overlaps(b):
            raise BadInput(
                f"topology {topology.name}",
                f"{a} for {one} overlaps {b} for {other}, but kind's nodes share a network",
                "choose other `pods:` in the topology",
            )
    return planned


def _ranges(cluster: KindCluster) -> dict[str, IPv4Network]:
    return {"pods": cluster.pods, "services": cluster.services}


def pool_of(network: IPv4Network, place: int) -> tuple[IPv4Address, IPv4Address]:
    """First and last of a cluster's load balancer addresses: at the end of the nodes' network, which assigns its
    first addresses first. Raises `Broken` if the network is too small."""
    last = int(network.broadcast_address) - 1 - POOL_SIZE * (place - 1)
    first = last - POOL_SIZE + 1
    if first < int(network.network_address) + network.num_addresses // 2:
        raise Broken(f"network {network} of kind's nodes", f"too small for the addresses of cluster {place}")
    return IPv4Address(first), IPv4Address(last)


class KindProvider:
    """kind as a `Maker`. All nodes are on one Docker or Podman network."""

    name = NAME

    def __init__(self, run: str, topology: Topology, runner: Runner, *, runtime: str) -> None:
        self.folder = RunFolder(NAME, run)
        self.clusters = plan_clusters(run, topology)
        self.runtime = runtime
        self._runner = runner
        self._addresses: dict[ClusterName, IPv4Interface] = {}

    @property
    def names(self) -> Mapping[ClusterName, str]:
        return {name: cluster.name for name, cluster in self.clusters.items()}

    @property
    def where(self) -> str:
        return self.runtime

    def context(self, cluster: ClusterName) -> str:
        return f"kind-{self.clusters[cluster].name}"

    def existing(self, names: Sequence[str]) -> tuple[str, ...]:
        output = self._runner.run(Command(argv=self._kind("get", "clusters"), why="list of clusters", example=""))
        there = output.split()
        return tuple(name for name in names if name in there)

    def create(self) -> None:
        for name, cluster in self.clusters.items():
            self._runner.run(self._creation(name, cluster))
        for name, cluster in self.clusters.items():
            for command in self._load_balancer(name):
                self._runner.run(command)
            self._runner.run(self._pool(name, cluster))

    def removal(self, name: str) -> Command:
        return Command(
            argv=self._kind("delete", "cluster", "--name", name), why=f"cluster {name} is removed", timeout_s=300
        )

    def remove(self, names: Sequence[str]) -> None:
        try_all(partial(self._runner.run, self.removal(name)) for name in names)

    def connect(self, topology: Topology) -> None:
        """Routes between nodes as in Istio's own tests (common/scripts/kind_provisioner.sh), in both directions.

        Each cluster has one node, so that node is the next hop for its pod range.
        """
        for client, server in topology.pairs:
            there = self.clusters[server.name]
            if topology.crosses_network(client, server):
                route, why = ["unreachable", str(there.pods)], f"{client.name} has no route to pods of {server.name}"
            else:
                route = [str(there.pods), "via", str(self._address(server.name).ip)]
                why = f"{client.name} has a route to pods of {server.name}, on one network"
            node = self.clusters[client.name].node
            self._runner.run(
                Command(argv=(self.runtime, "exec", node, "ip", "route", "replace", *route), why=f"{why}: {there.pods}")
            )

    def peers(self) -> Mapping[ClusterName, str]:
        """The node's own address, which is in the API server's certificate: other clusters' pods need no DNS.

        `kind get kubeconfig --internal` has the container's name, which Istio's tests replace by the address too.
        """
        return {name: f"https://{self._address(name).ip}:{API_PORT}" for name in self.clusters}

    # -- commands -------------------------------------------------------------------------------------------------

    def _kind(self, *arguments: str) -> tuple[str, ...]:
        prefix = ("env", f"{KIND_VARIABLE}={PODMAN}") if self.runtime == PODMAN else ()
        return (*prefix, "kind", *arguments)

    def _kubectl(self, name: ClusterName, *arguments: str) -> tuple[str, ...]:
        return ("kubectl", "--kubeconfig", str(self.folder.kubeconfig(name)), *arguments)

    def _creation(self, name: ClusterName, cluster: KindCluster) -> Command:
        kubeconfig = ("--kubeconfig", str(self.folder.kubeconfig(name)))
        return Command(
            argv=self._kind(
                *("create", "cluster", "--name", cluster.name, *kubeconfig, "--wait", f"{READY_S}s", "--config", "-")
            ),
            why=f"cluster {name}, pods {cluster.pods}, services {cluster.services}",
            stdin=cluster.config,
            timeout_s=900,  # the first time kind pulls its node image
        )

    def _load_balancer(self, name: ClusterName) -> tuple[Command, ...]:
        """MetalLB runs in the cluster, so no process of ours is needed while clusters are kept.

        It announces no address from nodes with a label which kubeadm sets on control planes; new versions of
        kind remove it from a single node (kubernetes-sigs/kind#3506), old ones do not.
        """
        in_namespace = ("--namespace", METALLB_NAMESPACE)
        ready = f"--timeout={READY_S}s"
        return (
            Command(
                argv=self._kubectl(name, "label", "nodes", "--all", f"{NO_LOAD_BALANCER}-"),
                why=f"the node of {name} may announce load balancers",
            ),
            Command(
                argv=self._kubectl(name, "apply", "--filename", METALLB), why=f"MetalLB {METALLB_VERSION} in {name}"
            ),
            Command(
                argv=self._kubectl(name, "rollout", "status", *in_namespace, "deployment/controller", ready),
                why=f"MetalLB in {name} is ready",
                timeout_s=READY_S + 20,
            ),
            Command(
                argv=self._kubectl(name, "rollout", "status", *in_namespace, "daemonset/speaker", ready),
                why=f"MetalLB in {name} announces them",
                timeout_s=READY_S + 20,
            ),
        )

    def _pool(self, name: ClusterName, cluster: KindCluster) -> Command:
        first, last = pool_of(self._address(name).network, cluster.place)
        api, meta = "metallb.io/v1beta1", {"name": "meshproof", "namespace": METALLB_NAMESPACE}
        manifests = (
            {"apiVersion": api, "kind": "IPAddressPool", "metadata": meta, "spec": {"addresses": [f"{first}-{last}"]}},
            {"apiVersion": api, "kind": "L2Advertisement", "metadata": meta},
        )
        return Command(
            argv=self._kubectl(name, "apply", "--filename", "-"),
            why=f"load balancers of {name} use {first} to {last}",
            stdin="---\n".join(yaml.safe_dump(manifest, sort_keys=False) for manifest in manifests),
            again_if="failed calling webhook",  # the Service of MetalLB's webhook may have no endpoint yet
            patience_s=60,
        )

    def _address(self, name: ClusterName) -> IPv4Interface:
        """The node's address and network, queried once."""
        if name not in self._addresses:
            self._addresses[name] = self._query_address(name)
        return self._addresses[name]

    def _query_address(self, name: ClusterName) -> IPv4Interface:
        cluster = self.clusters[name]
        # Docker's first network is 172.17.0.0/16, and kind creates its own.
        example = {NAME: {"IPAddress": f"172.18.0.{cluster.place + 1}", "IPPrefixLen": 16}}
        command = Command(
            argv=(self.runtime, "inspect", "--format", "{{json .NetworkSettings.Networks}}", cluster.node),
            why=f"the address of {name}'s node",
            example=json.dumps(example),
        )
        output = self._runner.run(command)
        try:
            (network, *_) = json.loads(output).values()
            return IPv4Interface(f"{network['IPAddress']}/{network['IPPrefixLen']}")
        except (ValueError, AttributeError, KeyError, TypeError):
            reason = f"no IPv4 address in {output[:300]!r}"
            raise Broken(command.text, reason, "check that the node's container is running") from None
