"""Which istiod proxies are connected to, and whether they hold what their istiod would send them now.

A proxy that rejects a part keeps its old form of it. istiod notes the rejection (`syncz`), and forgets it with the next
push of that kind that is acknowledged, though that need not have the rejected part in it; so both sides are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshproof.clients.istio import config_dump as xds_dump
from meshproof.clients.istio import istiod_debug as istiod
from meshproof.clients.istio.config_dump import ProxyConfig, difference
from meshproof.core.concurrency import together
from meshproof.core.versions import Version
from meshproof.discovery.probe_filter import without_probes
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import Snapshot


def held_problems(snapshot: Snapshot) -> dict[str, list[str]]:
    """Per proxy (`cluster namespace/pod`) what it is not connected to, has rejected, or holds in another form than its
    istiod would send; empty lists are good."""
    proxies = connected(snapshot)
    replicas = {f"{home} {replica}": (home, replica) for proxy in proxies for home, replica, _ in proxy.homes}
    told = together(lambda item: istiod.version(item[0].kube, item[1].name), replicas.values())
    versions = {name: Version.parse(text) for name, text in zip(replicas, told, strict=True)}

    def look(proxy: Connected) -> list[str]:
        if problems := proxy.problems(snapshot.mesh.control_plane_of(proxy.cluster)):
            return problems
        home, replica, sync = proxy.homes[0]
        wants = xds_dump.istiod_config(home.kube, replica.name, sync.proxy)
        holds = xds_dump.proxy_config(proxy.cluster.kube, proxy.pod.namespace, proxy.pod.name)
        return differences(wants, holds, contents=Version.parse(sync.version) == versions[f"{home} {replica}"])

    return {str(proxy): found for proxy, found in zip(proxies, together(look, proxies), strict=True)}


def differences(wants: ProxyConfig, holds: ProxyConfig, *, contents: bool = True) -> list[str]:
    """What is missing, left over, or (`contents`) in another form: a proxy of another version than its istiod may tell
    the same thing with other fields. What probes of ours have left is no matter: on a busy machine it goes late."""
    wants, holds = without_probes(wants), without_probes(holds)
    problems = [f"{part} is missing, though istiod would send it" for part in sorted(wants.keys() - holds.keys())]
    problems += [f"{part} is there, though istiod would not send it" for part in sorted(holds.keys() - wants.keys())]
    for part in sorted(wants.keys() & holds.keys()):
        if contents and (found := difference(wants[part], holds[part])):
            problems.append(f"{part} is in an old form: {found}")
    return problems


def sync_problems(snapshot: Snapshot) -> dict[str, list[str]]:
    """Per proxy (`cluster namespace/pod`) what is wrong with its connection to its control plane; empty lists are good.

    A rejection that istiod remembers is in it; one that it has forgotten is not, see `held_problems`.
    """
    return {str(found): found.problems(snapshot.mesh.control_plane_of(found.cluster)) for found in connected(snapshot)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A proxy, and the istiods that say it is connected to them: one, if all is healthy. `homes` are their clusters and
    pods, and how far in sync they think it is."""

    cluster: Cluster
    pod: PodFacts
    homes: tuple[tuple[Cluster, PodFacts, istiod.ProxySync], ...]

    def __str__(self) -> str:
        return f"{self.cluster} {self.pod}"

    def problems(self, own: Cluster) -> list[str]:
        """What is wrong if its control plane is that of `own`."""
        if not self.homes:
            return [f"not connected to any istiod (its control plane is {own})"]
        strange = [home for home, _, _ in self.homes if home is not own]
        problems = [f"connected to istiod of {home}, its control plane is {own}" for home in strange]
        return problems + [problem for _, _, proxy in self.homes for problem in proxy.problems]


def connected(snapshot: Snapshot) -> list[Connected]:
    """Every proxy, and where it is connected. Asks every replica of every istiod."""
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
