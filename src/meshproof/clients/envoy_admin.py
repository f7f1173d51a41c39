"""Envoy's admin interface, queried from inside the proxy's container, parsed into records without private keys."""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from cryptography import x509

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.core.errors import Broken
from meshproof.core.names import PROXY
from meshproof.pki.verify import parse_chain


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Endpoint:
    """One endpoint known to a proxy. `health` is Envoy's status (`HEALTHY`, `UNHEALTHY`, `DEGRADED`)."""

    address: str
    port: int
    weight: int
    health: str
    locality: str
    priority: int
    locality_weight: int = 0
    """That of all its locality's endpoints together, 0 if Envoy has none."""

    @property
    def key(self) -> str:
        return f"{self.address}:{self.port}"

    def __str__(self) -> str:
        place = f" in {self.locality}" if self.locality else ""
        return f"{self.key} weight {self.weight} {self.health.lower()}{place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The certificate chain that a proxy presents and the roots that it trusts. No key."""

    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """How a proxy connects to an endpoint: with `tls`, with a client certificate (`mutual`), to which SANs (`sans`)."""

    tls: bool
    mutual: bool = False
    sans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCounters:
    """Counters of one upstream host since it was added (Envoy docs, "Per host statistics" of `GET /clusters`)."""

    cluster: str
    address: str
    port: int
    cx_total: int
    rq_total: int

    @property
    def key(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draining:
    """What a proxy is draining: old versions of listeners that were changed or removed, and, where a listener was
    changed in place, single filter chains. Envoy closes their connections at the end of its drain time."""

    listeners: int = 0
    filter_chains: int = 0

    def __bool__(self) -> bool:
        return bool(self.listeners or self.filter_chains)

    def __str__(self) -> str:
        return f"listeners: {self.listeners}, filter chains: {self.filter_chains}"


def endpoints_of(kube: Kube, namespace: str, pod: str, cluster: str) -> tuple[Endpoint, ...]:
    """The endpoints of one cluster (`outbound|80||shop.ns.svc.cluster.local`), sorted; empty if there are none."""
    return parse_endpoints(_dump(kube, namespace, pod, ENDPOINTS, cluster), cluster)


def destination_rule_of(kube: Kube, namespace: str, pod: str, cluster: str) -> tuple[str, str] | None:
    """Namespace and name of the DestinationRule that istiod applied to one cluster of the proxy, if there is one."""
    return parse_destination_rule(_dump(kube, namespace, pod, CLUSTERS, cluster), cluster)


def security_of(kube: Kube, namespace: str, pod: str, cluster: str) -> Mapping[str, Security]:
    """How the proxy connects to each endpoint (`address:port`) of one cluster; empty if there are none."""
    clusters = _dump(kube, namespace, pod, CLUSTERS, cluster)
    return parse_security(clusters, _dump(kube, namespace, pod, ENDPOINTS, cluster), cluster)


def hosts_of_routes(kube: Kube, namespace: str, pod: str, route: str) -> frozenset[str]:
    """The domains for which the proxy has routes in one route configuration (a sidecar's is named after its port)."""
    return parse_hosts_of_routes(_dump(kube, namespace, pod, ROUTES, route), route)


def weights_of_route(kube: Kube, namespace: str, pod: str, route: str, host: str) -> Mapping[str, int]:
    """The weighted clusters of the first route for a host, by name of the Envoy cluster; empty if there are none."""
    return parse_weights_of_route(_dump(kube, namespace, pod, ROUTES, route), route, host)


def identity_of(kube: Kube, namespace: str, pod: str) -> Identity:
    """Certificate chain and roots in use. Raises `Broken` if the proxy has none."""
    text = admin(kube, namespace, pod, "/config_dump?resource=dynamic_active_secrets")
    return parse_identity(text, f"{namespace}/{pod} on {kube.name}")


def host_counters(kube: Kube, namespace: str, pod: str, part: str) -> tuple[HostCounters, ...]:
    """Counters of every host of the clusters whose name contains `part`.

    These come from `/clusters`, because Istio's default stats matcher drops the counters of listeners and clusters
    (istio.io/istio, pkg/bootstrap/config.go, `requiredEnvoyStatsMatcherInclusionPrefixes`) but not those of hosts.
    """
    return parse_host_counters(admin(kube, namespace, pod, "/clusters?format=json"), part)


def ejected_hosts(kube: Kube, namespace: str, pod: str, part: str) -> tuple[str, ...]:
    """The hosts (`address:port`) of the clusters whose name contains `part` that outlier detection has ejected."""
    return parse_ejected_hosts(admin(kube, namespace, pod, "/clusters?format=json"), part)


def stats(kube: Kube, namespace: str, pod: str, pattern: str) -> Mapping[str, int]:
    """Counters and gauges whose name matches the regular expression, if the stats matcher includes it."""
    return parse_stats(admin(kube, namespace, pod, f"/stats?format=json&filter={quote(pattern, safe='')}"))


def draining_of(kube: Kube, namespace: str, pod: str) -> Draining:
    """What a proxy is draining now (Envoy docs, Listener manager statistics).

    Istio's stats matcher always includes these statistics (istio/istio, pkg/bootstrap/config.go,
    `requiredEnvoyStatsMatcherInclusionPrefixes`).
    """
    return parse_draining(stats(kube, namespace, pod, f"^({'|'.join(map(re.escape, _DRAINING))})$"))


def draining_listeners(kube: Kube, namespace: str, pod: str) -> frozenset[str]:
    """The names of the listeners of which a proxy drains an old version."""
    mask = "mask=name,draining_state.last_updated"
    return parse_draining_listeners(admin(kube, namespace, pod, f"/config_dump?resource=dynamic_listeners&{mask}"))


def drain_time_s(kube: Kube, namespace: str, pod: str) -> float:
    """A proxy's drain time in seconds: `--drain-time-s`, which pilot-agent sets to
    `drainDuration` of the ProxyConfig (45 s unless set)."""
    return parse_drain_time_s(admin(kube, namespace, pod, "/server_info"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTimes:
    """When a proxy's Envoy started (seconds since 1970, by its machine's clock), and its drain time in seconds."""

    started: float
    drain_s: float


def server_times(kube: Kube, namespace: str, pod: str) -> ServerTimes:
    return parse_server_times(admin(kube, namespace, pod, "/server_info"), time.time())


def listener_updates(kube: Kube, namespace: str, pod: str) -> Mapping[str, float]:
    """When each listener got its present version, in seconds since 1970."""
    mask = "mask=name,active_state.last_updated"
    return parse_listener_updates(admin(kube, namespace, pod, f"/config_dump?resource=dynamic_listeners&{mask}"))


_DRAINING: Final = ("listener_manager.total_listeners_draining", "listener_manager.total_filter_chains_draining")
CLUSTERS: Final = "resource=dynamic_active_clusters"
ENDPOINTS: Final = "include_eds&resource=dynamic_endpoint_configs"
ROUTES: Final = "resource=dynamic_route_configs"


def _dump(kube: Kube, namespace: str, pod: str, what: str, name: str) -> str:
    """The resource of the proxy's configuration with exactly this name."""
    pattern = quote("^" + re.escape(name) + "$", safe="")
    return admin(kube, namespace, pod, f"/config_dump?{what}&name_regex={pattern}")


def admin(kube: Kube, namespace: str, pod: str, path: str) -> str:
    """The admin interface's response. Raises `Broken` with the output of the proxy's agent."""
    answer = kube.exec(namespace, pod, ["pilot-agent", "request", "GET", path], container=PROXY)
    if answer.exit_code != 0:
        output = [
            line for line in (answer.stderr or answer.stdout).splitlines() if line.strip() and " INFO " not in line
        ]
        raise Broken(f"GET {path} of the proxy in {namespace}/{pod} on {kube.name}", "\n".join(output)[-500:])
    return answer.stdout


def _parse(text: str, what: str) -> Json:
    try:
        parsed = json.loads(text)
    except ValueError:
        raise Broken(f"Envoy's {what}", f"not JSON: {text[:200]!r}") from None
    if not isinstance(parsed, dict):
        raise Broken(f"Envoy's {what}", f"not an object: {text[:200]!r}")
    return parsed


def parse_endpoints(text: str, cluster: str) -> tuple[Endpoint, ...]:
    """From a config dump with `include_eds`."""
    found: list[Endpoint] = []
    for config in _parse(text, "config_dump").get("configs") or []:
        assignment = config.get("endpoint_config") or {}
        if assignment.get("cluster_name") != cluster:
            continue
        for group in assignment.get("endpoints") or []:
            found.extend(_endpoints_of_locality(group))
    return tuple(sorted(found))


_RULE: Final = re.compile(r"/namespaces/([^/]+)/destination-rule/([^/]+)$")


def parse_destination_rule(text: str, cluster: str) -> tuple[str, str] | None:
    """From a config dump of clusters: istiod notes it in their metadata (pilot/pkg/networking/util,
    `AddConfigInfoMetadata`)."""
    for config in _parse(text, "config_dump").get("configs") or []:
        found = config.get("cluster") or {}
        if found.get("name") == cluster:
            metadata = ((found.get("metadata") or {}).get("filter_metadata") or {}).get("istio") or {}
            match = _RULE.search(str(metadata.get("config") or ""))
            return (match[1], match[2]) if match else None
    return None


_MATCHED: Final = "envoy.transport_socket_match"


def parse_security(clusters: str, endpoints: str, cluster: str) -> Mapping[str, Security]:
    """From config dumps: each endpoint has the first transport socket whose match fits its metadata (Envoy API,
    `Cluster.transport_socket_matches`), else the cluster's own, else none."""
    found: dict[str, Security] = {}
    configs = [c.get("cluster") or {} for c in _parse(clusters, "config_dump").get("configs") or []]
    config = next((c for c in configs if c.get("name") == cluster), {})
    for assignment in _parse(endpoints, "config_dump").get("configs") or []:
        loads = assignment.get("endpoint_config") or {}
        for group in (loads.get("endpoints") or []) if loads.get("cluster_name") == cluster else []:
            for endpoint in group.get("lb_endpoints") or []:
                address = endpoint["endpoint"]["address"]["socket_address"]
                metadata = ((endpoint.get("metadata") or {}).get("filter_metadata") or {}).get(_MATCHED) or {}
                found[f"{address['address']}:{address['port_value']}"] = _security(config, metadata)
    return MappingProxyType(found)


def _security(config: Json, metadata: Json) -> Security:
    matches = config.get("transport_socket_matches") or []
    fitting = [m["transport_socket"] for m in matches if (m.get("match") or {}).items() <= metadata.items()]
    socket: Json = fitting[0] if fitting else config.get("transport_socket") or {}
    if socket.get("name") != "envoy.transport_sockets.tls":
        return Security(tls=False)
    context = (socket.get("typed_config") or {}).get("common_tls_context") or {}
    validation = (context.get("combined_validation_context") or {}).get("default_validation_context") or {}
    return Security(
        tls=True,
        mutual=bool(context.get("tls_certificate_sds_secret_configs") or context.get("tls_certificates")),
        sans=tuple(san["exact"] for san in validation.get("match_subject_alt_names") or [] if "exact" in san),
    )


def _endpoints_of_locality(group: Json) -> Iterator[Endpoint]:
    place = group.get("locality") or {}
    locality = "/".join(part for part in (place.get("region"), place.get("zone"), place.get("sub_zone")) if part)
    for entry in group.get("lb_endpoints") or []:
        socket = ((entry.get("endpoint") or {}).get("address") or {}).get("socket_address") or {}
        yield Endpoint(
            address=socket.get("address") or "",
            port=int(socket.get("port_value") or 0),
            weight=int(entry.get("load_balancing_weight") or 1),
            health=entry.get("health_status") or "UNKNOWN",
            locality=locality,
            priority=int(group.get("priority") or 0),
            locality_weight=int(group.get("load_balancing_weight") or 0),
        )


def _virtual_hosts(text: str, route: str) -> Iterator[Json]:
    for config in _parse(text, "config_dump").get("configs") or []:
        routes = config.get("route_config") or {}
        if routes.get("name") == route:
            yield from routes.get("virtual_hosts") or []


def parse_hosts_of_routes(text: str, route: str) -> frozenset[str]:
    """From a config dump of route configurations."""
    return frozenset(domain for host in _virtual_hosts(text, route) for domain in host.get("domains") or [])


def parse_weights_of_route(text: str, route: str, host: str) -> Mapping[str, int]:
    """From a config dump of route configurations."""
    for candidate in _virtual_hosts(text, route):
        if host in (candidate.get("domains") or []):
            first: Json = next(iter(candidate.get("routes") or []), {})
            clusters = ((first.get("route") or {}).get("weighted_clusters") or {}).get("clusters") or []
            return MappingProxyType({entry["name"]: int(entry.get("weight") or 0) for entry in clusters})
    return MappingProxyType({})


def parse_identity(text: str, whose: str) -> Identity:
    """From a config dump of secrets. istiod names them `default` (own certificate) and `ROOTCA` (trust)."""
    chain: tuple[x509.Certificate, ...] = ()
    roots: tuple[x509.Certificate, ...] = ()
    for config in _parse(text, "config_dump").get("configs") or []:
        secret = config.get("secret") or {}
        if config.get("name") == "default":
            chain = _pem((secret.get("tls_certificate") or {}).get("certificate_chain"))
        elif config.get("name") == "ROOTCA":
            context: dict[str, Any] = secret.get("validation_context") or {}
            roots = _pem(context.get("trusted_ca"))
    if not chain or not roots:
        missing = " and ".join(word for word, got in (("certificate", chain), ("root", roots)) if not got)
        raise Broken(
            f"the proxy in {whose}", f"it has no {missing} yet", "check its log: it may be unable to reach its istiod"
        )
    return Identity(chain=chain, roots=roots)


def _pem(source: Json | None) -> tuple[x509.Certificate, ...]:
    """A data source: bytes in base64, or text."""
    entry = source or {}
    try:
        raw = base64.b64decode(entry["inline_bytes"]) if "inline_bytes" in entry else entry.get("inline_string", "")
        return parse_chain(raw) if raw else ()
    except (ValueError, binascii.Error):
        return ()


def parse_host_counters(text: str, part: str) -> tuple[HostCounters, ...]:
    """From `/clusters?format=json`; Envoy omits zero values."""
    found = []
    for status in _parse(text, "clusters").get("cluster_statuses") or []:
        name = status.get("name") or ""
        if part not in name:
            continue
        for host in status.get("host_statuses") or []:
            socket = (host.get("address") or {}).get("socket_address") or {}
            values = {entry["name"]: int(entry.get("value") or 0) for entry in host.get("stats") or []}
            found.append(
                HostCounters(
                    cluster=name,
                    address=socket.get("address") or "",
                    port=int(socket.get("port_value") or 0),
                    cx_total=values.get("cx_total", 0),
                    rq_total=values.get("rq_total", 0),
                )
            )
    return tuple(found)


def parse_ejected_hosts(text: str, part: str) -> tuple[str, ...]:
    """From `/clusters?format=json`."""
    ejected = {
        f"{socket.get('address')}:{socket.get('port_value')}"
        for status in _parse(text, "clusters").get("cluster_statuses") or []
        for host in (status.get("host_statuses") or [] if part in (status.get("name") or "") else [])
        if (host.get("health_status") or {}).get("failed_outlier_check")
        for socket in [(host.get("address") or {}).get("socket_address") or {}]
    }
    return tuple(sorted(ejected))


def parse_stats(text: str) -> Mapping[str, int]:
    entries = _parse(text, "stats").get("stats") or []
    return MappingProxyType({e["name"]: int(e["value"]) for e in entries if "name" in e and "value" in e})


def parse_draining(gauges: Mapping[str, int]) -> Draining:
    """From statistics. Raises `Broken` where a proxy does not report them: whether it drains is then unknown."""
    if missing := [name for name in _DRAINING if name not in gauges]:
        raise Broken(
            "Envoy's statistics",
            f"without {' and '.join(missing)}",
            "include the prefix listener_manager in the stats matcher of your custom bootstrap, as Istio's does",
        )
    listeners, filter_chains = (gauges[name] for name in _DRAINING)
    return Draining(listeners=listeners, filter_chains=filter_chains)


def parse_server_times(text: str, now: float) -> ServerTimes:
    """From `/server_info`, read at `now`."""
    uptime = str(_parse(text, "server_info").get("uptime_current_epoch"))
    try:
        return ServerTimes(started=now - float(uptime.removesuffix("s")), drain_s=parse_drain_time_s(text))
    except ValueError:
        raise Broken("Envoy's server_info", f"uptime_current_epoch is {uptime!r}, not seconds") from None


def parse_listener_updates(text: str) -> Mapping[str, float]:
    """From a config dump of listeners."""
    found = {}
    for config in _parse(text, "config_dump").get("configs") or []:
        if updated := (config.get("active_state") or {}).get("last_updated"):
            found[str(config.get("name"))] = datetime.fromisoformat(updated).timestamp()
    return MappingProxyType(found)


def parse_draining_listeners(text: str) -> frozenset[str]:
    """From a config dump of listeners."""
    configs = _parse(text, "config_dump").get("configs") or []
    return frozenset(str(config.get("name")) for config in configs if "draining_state" in config)


def parse_drain_time_s(text: str) -> float:
    """From `/server_info`, where durations are strings in seconds (`45s`)."""
    reported = (_parse(text, "server_info").get("command_line_options") or {}).get("drain_time")
    try:
        return float(str(reported).removesuffix("s"))
    except ValueError:
        raise Broken("Envoy's server_info", f"command_line_options.drain_time is {reported!r}, not seconds") from None
