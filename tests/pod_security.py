"""The rules of Pod Security `restricted` (Kubernetes, Pod Security Standards) for pod specs without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from meshproof.clients.kubernetes.client import Json

VOLUMES: Final = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
}
SYSCTLS: Final = {"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_syncookies"}
PROFILES: Final = ("RuntimeDefault", "Localhost")


def restricted_problems(spec: Json) -> list[str]:
    """What `restricted` would refuse a pod for; empty if it accepts it."""
    pod = spec.get("securityContext") or {}
    found = [f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += [
        f"volume {v['name']} is a {kind}" for v in spec.get("volumes") or [] for kind in {*v} - {"name"} - VOLUMES
    ]
    found += [f"sysctl {each['name']}" for each in pod.get("sysctls") or [] if each["name"] not in SYSCTLS]
    for container in (*(spec.get("initContainers") or []), *spec["containers"]):
        found += [f"{container['name']}: {problem}" for problem in _of_container(container, pod)]
    return found


def _of_container(container: Json, pod: Json) -> Iterator[str]:
    own = container.get("securityContext") or {}
    capabilities = own.get("capabilities") or {}
    if own.get("privileged"):
        yield "it is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "privilege escalation is allowed"
    if "ALL" not in (capabilities.get("drop") or []):
        yield "it does not drop all capabilities"
    if {*(capabilities.get("add") or [])} - {"NET_BIND_SERVICE"}:
        yield "it adds capabilities"
    if not own.get("runAsNonRoot", pod.get("runAsNonRoot")):
        yield "it may run as root"
    if own.get("runAsUser", pod.get("runAsUser")) == 0:
        yield "its user is root"
    if (own.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type") not in PROFILES:
        yield "it has no seccomp profile"
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield "it has a host port"
    if own.get("procMount", "Default") != "Default":
        yield "its /proc is unmasked"
