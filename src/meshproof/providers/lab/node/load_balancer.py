"""The lab's load balancer: assigns stable addresses to Services of type LoadBalancer.

kube-proxy handles these addresses on the node; all that is missing in a cluster without a cloud is a controller that
assigns them. This runs as a separate process, one watch per cluster, and survives restarts of API servers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from meshproof.clients.kubernetes.client import Json, Kube, path_of
from meshproof.core.errors import Broken
from meshproof.core.model import ClusterName
from meshproof.core.signals import reset_inherited_signals
from meshproof.core.waiting import pause

RETRY_S = 0.5


class PoolExhausted(Broken):
    """A cluster's pool has no free address."""


@dataclass(kw_only=True)
class AddressAllocator:
    """Assigns addresses of a pool. A Service keeps its address for the lab's lifetime, even if recreated."""

    pool: IPv4Network
    assigned: dict[str, IPv4Address] = field(default_factory=dict)

    def address_for(self, service: str, wanted: str = "") -> IPv4Address:
        """The address of `namespace/name`; `wanted` (the one in its status) is used if it is free."""
        if service in self.assigned:
            return self.assigned[service]
        taken = set(self.assigned.values())
        if wanted and IPv4Address(wanted) in self.pool and IPv4Address(wanted) not in taken:
            self.assigned[service] = IPv4Address(wanted)
            return self.assigned[service]
        for candidate in self.pool.hosts():
            if candidate not in taken:
                self.assigned[service] = candidate
                return candidate
        raise PoolExhausted(f"address for {service}", f"the pool {self.pool} has no free address", "delete Services")


def status_patch(service: Json, allocator: AddressAllocator) -> Json | None:
    """The status patch for a Service, or None if there is nothing to do."""
    meta, spec = service["metadata"], service["spec"]
    current = [i.get("ip", "") for i in service.get("status", {}).get("loadBalancer", {}).get("ingress", [])]
    if spec.get("type") != "LoadBalancer" or "deletionTimestamp" in meta:
        return None
    address = str(allocator.address_for(f"{meta['namespace']}/{meta['name']}", current[0] if current else ""))
    if current == [address]:
        return None
    return {"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}}


def serve(kube: Kube, allocator: AddressAllocator) -> None:
    """Watch one cluster's Services for ever. API server errors are logged and retried."""
    while True:
        try:
            for event in kube.watch(path_of("Service"), timeout_s=300):
                if event["type"] not in ("ADDED", "MODIFIED"):
                    continue
                service = event["object"]
                patch = status_patch(service, allocator)
                if patch is not None:
                    meta = service["metadata"]
                    kube.merge_patch("Service", meta["name"], patch, meta["namespace"], sub="status")
                    ingress = patch["status"]["loadBalancer"]["ingress"]
                    print(f"{kube.name}: {meta['namespace']}/{meta['name']} is at {ingress[0]['ip']}", flush=True)
        except PoolExhausted as problem:
            print(f"{kube.name}: {problem}", flush=True)
        except Broken as problem:
            print(f"{kube.name}: {problem}; trying again", flush=True)
        pause(RETRY_S)


def main() -> None:
    """Entry point; the argument is a JSON file that maps clusters to kubeconfig and pool."""
    reset_inherited_signals()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clusters", type=Path)
    threads = []
    clusters: Path = parser.parse_args().clusters
    tempfile.tempdir = str(clusters.parent)  # the lab's folder, which is removed with it: this process ends by a signal
    for name, facts in json.loads(clusters.read_text()).items():
        kube = Kube(Path(facts["kubeconfig"]), ClusterName(name), name=name)
        allocator = AddressAllocator(pool=IPv4Network(facts["pool"]))
        threads.append(threading.Thread(target=serve, args=(kube, allocator), name=name))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
