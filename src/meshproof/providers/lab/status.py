"""The output of `meshproof lab status`: clusters, addresses, memory, versions."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from meshproof.clients.kubernetes.client import Kube
from meshproof.core.errors import BadInput, Broken
from meshproof.providers.lab import api as labs
from meshproof.providers.lab import cleanup as remains
from meshproof.providers.lab.state import LabFolder


def memory_kib(root: int) -> int:
    """Memory of a process and all its descendants in KiB: as proportional set size, so that shared pages count once."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children[parent].append(int(entry.name))
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        waiting += children[pid]
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total


def lab_status(name: str) -> str:
    """The status as text. Raises `BadInput` if there is no such lab."""
    folder = LabFolder(name)
    lab = labs.running(name)
    if lab is None:
        left = remains.find_remains(name)
        if folder.daemon is not None:
            return f"lab {name}: starting"
        if left:
            raise BadInput(f"lab {name}", f"is not running, but has leftovers: {left}", "meshproof lab down")
        raise BadInput(f"lab {name}", "is not up", "start it with `meshproof lab up`")
    daemon = folder.daemon
    memory = memory_kib(daemon.pid) / 2**20 if daemon else 0.0
    lines = [
        f"lab {name}: up, {memory:.2f} GiB of memory, Istio {lab.toolbox.istio_version}",
        f"  {lab.toolbox.data_plane}",
    ]
    for node in lab.spec.plan.nodes:
        kube = Kube(folder.kubeconfig(node.cluster), node.cluster, name=node.cluster)
        lines.append(f"  {node.cluster}: {node.api_url} (Kubernetes {_version(kube)})")
        lines.append(f"    pods {node.pods}, services {node.services}, load balancers {node.pool}")
        with suppress(Broken):
            for service in kube.list("Service"):
                for ingress in service["status"].get("loadBalancer", {}).get("ingress", []):
                    ports = ",".join(str(p["port"]) for p in service["spec"]["ports"])
                    meta = service["metadata"]
                    lines.append(f"    {meta['namespace']}/{meta['name']}: {ingress['ip']} ports {ports}")
    lines += [f"  exited unexpectedly: {problem}" for problem in lab.problems()]
    return "\n".join(lines)


def _version(kube: Kube) -> str:
    try:
        return str(kube.get("/version")["gitVersion"])
    except Broken as problem:
        return problem.reason
