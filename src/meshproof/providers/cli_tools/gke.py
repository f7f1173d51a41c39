"""Clusters created with gcloud in one project, zone and VPC; a firewall rule connects pods on one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from meshproof.clients.kubernetes.client import label_selector
from meshproof.core.errors import BadInput, Broken
from meshproof.core.model import ClusterName, Topology
from meshproof.core.names import MANAGED_BY
from meshproof.providers.cli_tools.clusters import RunFolder
from meshproof.providers.cli_tools.commands import Command, Runner, Tool, try_all

NAME: Final = "gke"
NETWORK: Final = "default"
NODES: Final = 2
MACHINE: Final = "e2-standard-2"
LONGEST_NAME: Final = 40
"""Maximum length of a cluster's name (GKE API, Cluster.name)."""
PROTOCOLS: Final = "tcp,udp,icmp,esp,ah,sctp"
"""Protocols allowed between pods, as GKE allows them within a cluster (GKE, firewall rules)."""
PRIORITY: Final = "900"
"""Takes precedence over rules with the default of 1000."""
SLOW_S: Final = 1800.0
BUSY: Final = "operation"
BUSY_S: Final = 900.0
"""How long to retry: a cluster that is still being created cannot be deleted yet."""

TOOLS: Final = (
    Tool(name="gcloud", repair="install the Google Cloud CLI, then `gcloud auth login`"),
    Tool(name="gke-gcloud-auth-plugin", repair="`gcloud components install gke-gcloud-auth-plugin`"),
    Tool(name="kubectl", repair="`gcloud components install kubectl`"),
)


class GkeProvider:
    """gcloud as a `Maker`. `project` and `zone` are queried from `gcloud config` if they are empty."""

    name = NAME

    def __init__(self, run: str, topology: Topology, runner: Runner, *, project: str, zone: str) -> None:
        self.folder = RunFolder(NAME, run)
        self._run_name = run
        self._runner = runner
        self._names = {spec.name: f"meshproof-{run}-{spec.name}" for spec in topology.clusters}
        for name in self._names.values():
            if len(name) > LONGEST_NAME:
                raise BadInput(
                    f"cluster name {name}",
                    f"has {len(name)} characters, but GKE allows {LONGEST_NAME}",
                    "choose a shorter --lab-name, or shorter names in the topology",
                )
        self.project = project or self._configured("project", "--gke-project", example="PROJECT")
        self.zone = zone or self._configured("compute/zone", "--gke-zone", example="ZONE")
        self._credentials: set[ClusterName] = set()
        self._open: list[str] = []

    @property
    def names(self) -> Mapping[ClusterName, str]:
        return self._names

    @property
    def where(self) -> str:
        return f"project {self.project}, zone {self.zone}"

    def context(self, cluster: ClusterName) -> str:
        """The context that `gcloud container clusters get-credentials` creates."""
        return f"gke_{self.project}_{self.zone}_{self._names[cluster]}"

    def existing(self, names: Sequence[str]) -> tuple[str, ...]:
        listing = ("container", "clusters", "list", *self._zone, "--format=value(name)")
        present = self._query(*listing, why="list of clusters")
        return tuple(name for name in names if name in present)

    def create(self) -> None:
        """Create all concurrently, since each takes about five minutes."""
        self._runner.at_once([self._creation(cluster) for cluster in self._names])
        for cluster, name in self._names.items():
            self._runner.run(
                Command(
                    argv=self._with_kubeconfig(
                        cluster, "gcloud", "container", "clusters", "get-credentials", name, *self._project, *self._zone
                    ),
                    why=f"credentials for {cluster}",
                )
            )
            self._credentials.add(cluster)

    def removal(self, name: str) -> Command:
        return Command(
            argv=(*("gcloud", "container", "clusters", "delete", name), *self._project, *self._zone, "--quiet"),
            why=f"cluster {name} is deleted, concurrently with the others",
            timeout_s=SLOW_S,
            again_if=BUSY,
            patience_s=BUSY_S,
        )

    def remove(self, names: Sequence[str]) -> None:
        """Load balancers first: GKE does not guarantee to delete them with their cluster, and they cost money."""
        reachable = [c for c, name in self._names.items() if name in names and self._is_reachable(c)]
        try_all(
            (
                *(partial(self._runner.run, self._services_removal(cluster)) for cluster in reachable),
                self._close,
                partial(self._runner.at_once, [self.removal(name) for name in names]),
            )
        )

    def connect(self, topology: Topology) -> None:
        """Pods have VPC addresses, but GKE's firewall admits those of their own cluster only: a rule admits the others.

        By ranges and by the tags of nodes, as in istio.io's instructions for GKE. Without such a rule the networks are
        separate.
        """
        self._close()
        for number, network in enumerate(topology.networks, start=1):
            together = [spec.name for spec in topology.clusters if spec.network == network]
            if len(together) > 1:
                self._runner.run(self._opening(f"{self._mark}-pods-{number}", together))
                self._open.append(f"{self._mark}-pods-{number}")

    def peers(self) -> Mapping[ClusterName, str]:
        """None: kubeconfigs have the public endpoint."""
        return {}

    # -- commands -------------------------------------------------------------------------------------------------

    @property
    def _mark(self) -> str:
        """The description that identifies firewall rules of this lab name."""
        return f"meshproof-{self._run_name}"

    @property
    def _project(self) -> tuple[str, ...]:
        return ("--project", self.project)

    @property
    def _zone(self) -> tuple[str, ...]:
        return ("--zone", self.zone)

    def _configured(self, key: str, flag: str, *, example: str) -> str:
        command = Command(argv=("gcloud", "config", "get-value", key), why=f"{flag} was not given", example=example)
        if found := self._runner.run(command):
            return found
        raise BadInput(
            f"{flag} is missing", f"`{command.text}` has no value", f"use {flag}, or `gcloud config set {key}`"
        )

    def _query(self, *arguments: str, why: str, example: str = "", must: bool = False) -> list[str]:
        """The output's words. Raises `Broken` if there are none but there `must` be."""
        command = Command(argv=("gcloud", *arguments, *self._project), why=why, example=example)
        found = self._runner.run(command).split()
        if must and not found:
            raise Broken(command.text, f"empty output, expected {why}")
        return found

    def _with_kubeconfig(self, cluster: ClusterName, *argv: str) -> tuple[str, ...]:
        """gcloud writes credentials to the variable's file: never into the user's own kubeconfig."""
        return ("env", f"KUBECONFIG={self.folder.kubeconfig(cluster)}", *argv)

    def _creation(self, cluster: ClusterName) -> Command:
        """VPC-native (`--enable-ip-alias`): only then are pod addresses routable from the other cluster's nodes."""
        size = ("--num-nodes", str(NODES), "--machine-type", MACHINE)
        where = (*self._project, *self._zone, "--network", NETWORK, "--enable-ip-alias")
        create = ("gcloud", "container", "clusters", "create", self._names[cluster])
        return Command(
            argv=self._with_kubeconfig(cluster, *create, *where, *size, "--quiet"),
            why=f"cluster {cluster}, concurrently with the others",
            timeout_s=SLOW_S,
        )

    def _is_reachable(self, cluster: ClusterName) -> bool:
        return cluster in self._credentials or self.folder.kubeconfig(cluster).is_file()

    def _services_removal(self, cluster: ClusterName) -> Command:
        ours = ("--selector", label_selector(MANAGED_BY))
        delete = ("kubectl", "delete", "services", "--all-namespaces", *ours, "--timeout=300s")
        return Command(
            argv=self._with_kubeconfig(cluster, *delete),
            why=f"load balancers of {cluster} are removed",
            timeout_s=320,
        )

    def _close(self) -> None:
        """Delete this name's firewall rules, of this or older runs; clusters stay."""
        found = self._query(
            *("compute", "firewall-rules", "list", f"--filter=description={self._mark}", "--format=value(name)"),
            why="firewall rules of this name",
            example="\n".join(self._open),
        )
        try_all(partial(self._runner.run, self._rule_removal(rule)) for rule in found)
        self._open.clear()

    def _rule_removal(self, rule: str) -> Command:
        return Command(
            argv=("gcloud", "compute", "firewall-rules", "delete", rule, *self._project, "--quiet"),
            why=f"firewall rule {rule} is deleted",
            timeout_s=300,
        )

    def _opening(self, rule: str, clusters: Sequence[ClusterName]) -> Command:
        ranges = [value for cluster in clusters for value in self._pod_ranges(cluster)]
        tags = [value for cluster in clusters for value in self._node_tags(cluster)]
        create = ("gcloud", "compute", "firewall-rules", "create", rule, *self._project)
        scope = ("--network", NETWORK, "--direction", "INGRESS", "--priority", PRIORITY, "--allow", PROTOCOLS)
        ends = ("--source-ranges", ",".join(ranges), "--target-tags", ",".join(tags))
        return Command(
            argv=(*create, *scope, *ends, "--description", self._mark, "--quiet"),
            why=f"pods of {' and '.join(clusters)} reach each other, on one network",
            timeout_s=300,
        )

    def _pod_ranges(self, cluster: ClusterName) -> list[str]:
        return self._query(
            *("container", "clusters", "describe", self._names[cluster], *self._zone),
            "--format=value(clusterIpv4Cidr)",
            why=f"the pod range of {cluster}",
            must=True,
            example=f"10.{4 * self._place(cluster)}.0.0/14",
        )

    def _node_tags(self, cluster: ClusterName) -> list[str]:
        name = self._names[cluster]
        found = self._query(
            *("compute", "instances", "list", f"--filter=labels.goog-k8s-cluster-name={name}", "--zones", self.zone),
            "--format=value(tags.items.[0])",
            why=f"the node tags of {cluster}",
            must=True,
            example=f"gke-{name}-0123abcd-node",
        )
        return sorted(set(found))

    def _place(self, cluster: ClusterName) -> int:
        return list(self._names).index(cluster) + 1
