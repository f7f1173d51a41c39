"""The processes of a node with the settings that the lab needs; unusual ones have their reason."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from meshproof.core.names import CLUSTER_DOMAIN
from meshproof.providers.lab.build.debian import program
from meshproof.providers.lab.build.images import CONTAINERD_CONFIG, PAUSE
from meshproof.providers.lab.node.credentials import ClusterAuthority
from meshproof.providers.lab.node.namespaces import Node
from meshproof.providers.lab.node.supervisor import ProcessSpec

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"

AUDIT_LOG = "audit.log"
"""In a node's folder: all writes to its API server except by the cluster or Istio themselves, one JSON object per
line."""
AUDIT_POLICY: dict[str, object] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {
            "level": "None",
            "users": [
                *(f"system:{name}" for name in ("apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"))
            ],
        },
        {
            "level": "None",
            "userGroups": [
                "system:nodes",
                "system:serviceaccounts:kube-system",
                "system:serviceaccounts:istio-system",
            ],
        },
        {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
    ],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFiles:
    """Certificates and configuration files of one cluster, all in `folder`."""

    folder: Path
    admin: Path
    """Kubeconfig of the administrator; its context is the cluster's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProcesses:
    """The processes of one cluster, in start order."""

    first: tuple[ProcessSpec, ...]
    """etcd, containerd and the API server, which do not depend on the others."""
    then: tuple[ProcessSpec, ...]
    """Processes that need a ready API server."""


def write_cni(node: Node) -> None:
    """The CNI configuration: one bridge per node, no masquerade (the node's own rules do that), hairpin on."""
    conf = {
        "cniVersion": "0.4.0",
        "name": "lab",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": False,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": str(node.plan.pods)}]],
                    # isDefaultGateway would add the same route a second time and fail with EEXIST.
                    "routes": [{"dst": "0.0.0.0/0"}],
                    # Persists across the node's restart, as by default: else pods would reuse each other's old
                    # addresses.
                    "dataDir": f"{node.home}/cni-ipam",
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    folder = node.home / "cni-conf"
    folder.mkdir(exist_ok=True)
    (folder / "10-lab.conflist").write_text(json.dumps(conf))


def write_node_files(node: Node, *, cgroup: str, may_raise_limits: bool) -> tuple[ClusterFiles, ClusterAuthority]:
    """Write the certificates and configuration files of a cluster."""
    plan = node.plan
    folder = node.home / "config"
    folder.mkdir(exist_ok=True, mode=0o700)
    ca = ClusterAuthority(folder, plan)
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{CLUSTER_DOMAIN}")
    ca.issue(
        "apiserver",
        common_name="kube-apiserver",
        hosts=(*names, "localhost", "127.0.0.1", str(plan.address), str(plan.kubernetes_service)),
    )
    ca.issue("kubelet-server", common_name=plan.host_name, hosts=(plan.host_name, str(plan.address)))
    ca.issue("apiserver-to-kubelet", common_name="kube-apiserver", organization="system:masters")
    ca.service_account_key()
    admin = ca.kubeconfig("admin", ca.issue("admin", common_name="admin", organization="system:masters"))
    local = "https://127.0.0.1:6443"
    for name, common_name, organization in (
        ("controller-manager", "system:kube-controller-manager", ""),
        ("scheduler", "system:kube-scheduler", ""),
        ("proxy", "system:kube-proxy", ""),
        ("kubelet", f"system:node:{plan.host_name}", "system:nodes"),
    ):
        ca.kubeconfig(name, ca.issue(name, common_name=common_name, organization=organization), server=local)
    write_cni(node)
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet_config(node, folder, cgroup)))
    (folder / "proxy.yaml").write_text(yaml.safe_dump(_proxy_config(node, folder)))
    (folder / "audit.yaml").write_text(yaml.safe_dump(AUDIT_POLICY))
    (folder / "containerd.toml").write_text(
        CONTAINERD_CONFIG.format(
            root="/var/lib/containerd",
            state="/run/containerd",
            socket=CONTAINERD_SOCKET,
            pause=PAUSE,
            # Without CAP_SYS_RESOURCE runc cannot lower a score and dies with "can't get final child's PID from pipe".
            restrict="false" if may_raise_limits else "true",
            cni=node.home / "cni-conf",
        )
    )
    return ClusterFiles(folder=folder, admin=admin), ca


def _kubelet_config(node: Node, folder: Path, cgroup: str) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": str(node.plan.address),
        "port": 10250,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{folder}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{folder}/kubelet-server.crt",
        "tlsPrivateKeyFile": f"{folder}/kubelet-server.key",
        "clusterDNS": [str(node.plan.dns_service)],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": f"{node.home}/resolv.conf",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        # Kubernetes 1.36 refuses cgroup v1 by default; the lab's machine may still have it.
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "cgroupRoot": cgroup,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "50Mi"},
        "maxPods": 200,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "serializeImagePulls": False,
        "nodeStatusReportFrequency": "10s",
        "nodeStatusUpdateFrequency": "4s",
        "syncFrequency": "10s",
        "volumeStatsAggPeriod": "0s",
        "shutdownGracePeriod": "0s",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
    }


def _proxy_config(node: Node, folder: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": f"{folder}/proxy.kubeconfig"},
        "hostnameOverride": node.plan.host_name,
        "clusterCIDR": str(node.plan.pods),
        "bindAddress": str(node.plan.address),
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # A namespace without CAP_SYS_ADMIN on the host may not write them.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
    }


def control(node: Node, files: ClusterFiles, programs: Path) -> NodeProcesses:
    """The processes of a cluster."""
    plan, folder = node.plan, files.folder

    def spec(name: str, binary: Path, flags: Iterable[str]) -> ProcessSpec:
        return node.spec(name, binary, *flags)

    etcd = spec(
        "etcd",
        program("etcd"),
        (
            "--name=lab",
            f"--data-dir={node.home}/etcd",  # persists across the node's restart, like a disk
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=lab=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            "--logger=zap",
            "--log-level=warn",
        ),
    )
    containerd = spec("containerd", program("containerd"), ("--config", f"{folder}/containerd.toml"))
    apiserver = spec(
        "kube-apiserver",
        programs / "kube-apiserver",
        (
            f"--advertise-address={plan.address}",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--service-cluster-ip-range={plan.services}",
            "--secure-port=6443",
            f"--tls-cert-file={folder}/apiserver.crt",
            f"--tls-private-key-file={folder}/apiserver.key",
            f"--client-ca-file={folder}/ca.crt",
            f"--kubelet-certificate-authority={folder}/ca.crt",
            f"--kubelet-client-certificate={folder}/apiserver-to-kubelet.crt",
            f"--kubelet-client-key={folder}/apiserver-to-kubelet.key",
            # Otherwise logs, exec and port-forward look up the node's name in DNS.
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
            f"--service-account-key-file={folder}/service-accounts.key",
            f"--service-account-signing-key-file={folder}/service-accounts.key",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--profiling=false",
            f"--audit-policy-file={folder}/audit.yaml",
            f"--audit-log-path={node.home}/{AUDIT_LOG}",
            # Both need progress notifications from etcd 3.4.25 or newer; Debian 12 has 3.4.23, and clients would
            # wait three seconds per kind of object before they fall back to listing.
            "--feature-gates=WatchList=false,SizeBasedListCostEstimate=false",
            "--v=1",
        ),
    )
    managed = (
        spec(
            "kube-controller-manager",
            programs / "kube-controller-manager",
            (
                f"--kubeconfig={folder}/controller-manager.kubeconfig",
                "--use-service-account-credentials",
                f"--service-account-private-key-file={folder}/service-accounts.key",
                f"--root-ca-file={folder}/ca.crt",
                f"--cluster-signing-cert-file={folder}/ca.crt",
                f"--cluster-signing-key-file={folder}/ca.key",
                "--leader-elect=false",
                "--node-monitor-period=1s",
                "--bind-address=127.0.0.1",
                "--v=1",
            ),
        ),
        spec(
            "kube-scheduler",
            programs / "kube-scheduler",
            (
                f"--kubeconfig={folder}/scheduler.kubeconfig",
                f"--authentication-kubeconfig={folder}/scheduler.kubeconfig",
                f"--authorization-kubeconfig={folder}/scheduler.kubeconfig",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                "--v=1",
            ),
        ),
        spec(
            "kubelet",
            programs / "kubelet",
            (
                f"--config={folder}/kubelet.yaml",
                f"--kubeconfig={folder}/kubelet.kubeconfig",
                f"--hostname-override={plan.host_name}",
                f"--node-ip={plan.address}",
                "--v=1",
            ),
        ),
        spec("kube-proxy", programs / "kube-proxy", (f"--config={folder}/proxy.yaml", "--v=1")),
    )
    return NodeProcesses(first=(etcd, containerd, apiserver), then=managed)
