"""Which istiod proxies are connected to, and whether they have what their istiod would send them now.

A proxy that rejects a part keeps the old version of it. istiod records the rejection (`syncz`), and forgets it with the
next acknowledged push of that kind, even without the rejected part; so both sides are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshproof.clients.istio import config_dump
from meshproof.clients.istio import istiod_debug as istiod
from meshproof.clients.istio.config_dump import ProxyConfig, difference
from meshproof.core.concurrency import together
from meshproof.core.versions import Version
from meshproof.discovery.probe_filter import without_probes
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import Snapshot


def xds_problems(snapshot: Snapshot) -> dict[str, list[str]]:
    """Per proxy (`cluster namespace/pod`) how it is not in sync: wrong connections, rejections, and differences from
    what its istiod would send; empty lists are good."""
    proxies = connected(snapshot)
    replicas = {f"{home} {replica}": (home, replica) for proxy in proxies for home, replica, _ in proxy.homes}
    texts = together(lambda item: istiod.version(item[0].kube, item[1].name), replicas.values())
    versions = {name: Version.parse(text) for name, text in zip(replicas, texts, strict=True)}

    def look(proxy: Connected) -> list[str]:
        if problems := proxy.problems(snapshot.mesh.control_plane_of(proxy.cluster)):
            return problems
        home, replica, sync = proxy.homes[0]
        wants = config_dump.istiod_config(home.kube, replica.name, sync.proxy)
        holds = config_dump.proxy_config(proxy.cluster.kube, proxy.pod.namespace, proxy.pod.name)
        return config_differences(wants, holds, contents=Version.parse(sync.version) == versions[f"{home} {replica}"])

    return {str(proxy): found for proxy, found in zip(proxies, together(look, proxies), strict=True)}


def config_differences(wants: ProxyConfig, holds: ProxyConfig, *, contents: bool = True) -> list[str]:
    """What is missing, left over, or (`contents`) in another form.

    A proxy of another version than its istiod may render the same content with other fields. What our own probes left
    is ignored: on a busy machine it is removed late.
    """
    wants, holds = without_probes(wants), without_probes(holds)
    problems = [f"{part} is missing, although istiod would send it" for part in sorted(wants.keys() - holds.keys())]
    problems += [f"{part} is left over: istiod would not send it" for part in sorted(holds.keys() - wants.keys())]
    for part in sorted(wants.keys() & holds.keys()):
        if contents and (found := difference(wants[part], holds[part])):
            problems.append(f"{part} is stale: {found}")
    return problems


def sync_problems(snapshot: Snapshot) -> dict[str, list[str]]:
    """Per proxy (`cluster namespace/pod`) what is wrong with its connection to its control plane; empty lists are good.

    A rejection that istiod remembers is in it; one that it has forgotten is not, see `xds_problems`.
    """
    return {str(found): found.problems(snapshot.mesh.control_plane_of(found.cluster)) for found in connected(snapshot)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A proxy, and the istiods that report a connection with it: one, if all is healthy.

    `homes` are their clusters and pods, and the sync state that they report.
    """

    cluster: Cluster
    pod: PodFacts
    homes: tuple[tuple[Cluster, PodFacts, istiod.ProxySync], ...]

    def __str__(self) -> str:
        return f"{self.cluster} {self.pod}"

    def problems(self, own: Cluster) -> list[str]:
        """What is wrong if its control plane is that of `own`."""
        if not self.homes:
            return [f"not connected to any istiod (its control plane is {own})"]
        others = [home for home, _, _ in self.homes if home is not own]
        problems = [f"connected to istiod of {home}, its control plane is {own}" for home in others]
        return problems + [problem for _, _, proxy in self.homes for problem in proxy.problems]


def connected(snapshot: Snapshot) -> list[Connected]:
    """Every proxy, and where it is connected. Queries every replica of every istiod."""
    replicas = [(facts.cluster, pod) for facts in snapshot.facts for pod in facts.istiods]
    answers = together(lambda item: istiod.syncz(item[0].kube, item[1].name), replicas)
    homes: dict[tuple[str, str], list[tuple[Cluster, PodFacts, istiod.ProxySync]]] = {}
    for (home, replica), proxies in zip(replicas, answers, strict=True):
        for proxy in proxies:
            homes.setdefault((proxy.cluster, proxy.proxy), []).append((home, replica, proxy))
    return [
        Connected(
            cluster=facts.cluster,
            pod=pod,
            homes=tuple(homes.get((facts.cluster.name, f"{pod.name}.{pod.namespace}"), ())),
        )
        for facts in snapshot.facts
        for pod in facts.proxies
    ]
