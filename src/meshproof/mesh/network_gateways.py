"""The gateways that lead into a network: by a label of their Service, or by `meshNetworks` of the mesh configuration.

As istiod finds them (istio.io/istio, pilot/pkg/serviceregistry/kube/controller/network.go, pilot/pkg/model/network.go).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import yaml

from meshproof.clients.istio.istiod_debug import NetworkGateway
from meshproof.clients.kubernetes.client import Kube
from meshproof.clients.nslookup import nslookup
from meshproof.core import names
from meshproof.core.model import ClusterSpec
from meshproof.mesh.objects import PodFacts, ServiceFacts

PORT_LABEL: Final = "networking.istio.io/gatewayPort"
"""Label of a gateway's Service, if the port is not 15443."""
MESH_NETWORKS: Final = "meshNetworks"
"""Key of istiod's ConfigMap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredGateway:
    """A gateway in `meshNetworks`: an address, or a Service (its host name) of the clusters of that network."""

    network: str
    port: int
    address: str = ""
    service: str = ""
    registries: tuple[str, ...] = ()


def declared_gateways(text: str) -> tuple[DeclaredGateway, ...]:
    """From the text of `meshNetworks`; istiod ignores what it cannot read, too."""
    try:
        parsed = yaml.safe_load(text) or {}
    except yaml.YAMLError:
        parsed = {}
    networks = parsed.get("networks") if isinstance(parsed, dict) else None
    return tuple(
        DeclaredGateway(
            network=str(network),
            port=int(gateway.get("port") or 0),
            address=str(gateway.get("address") or ""),
            service=str(gateway.get("registryServiceName") or gateway.get("registry_service_name") or ""),
            registries=tuple(str(e["fromRegistry"]) for e in found.get("endpoints") or [] if e.get("fromRegistry")),
        )
        for network, found in (networks or {}).items()
        for gateway in (found or {}).get("gateways") or []
    )


def gateway_port(service: ServiceFacts, spec: ClusterSpec, declared: Iterable[DeclaredGateway]) -> int:
    """The port at which a Service leads into its cluster's network, 0 if it does not.

    The topology's gateway should, with the label or without; then istiod does not know it (GATEWAYS-07).
    """
    of_network = [gateway for gateway in declared if gateway.network == spec.network]
    if names.NETWORK_LABEL in service.labels:
        wanted = service.labels.get(PORT_LABEL, "")
        port = int(wanted) if wanted.isdecimal() else names.PORT_SERVICES
        return port if service.labels[names.NETWORK_LABEL] == spec.network and port in service.port_numbers else 0
    host = names.fqdn(service.name, service.namespace)
    for gateway in of_network:
        if gateway.service == host and spec.name in gateway.registries:
            return gateway.port
    return names.PORT_SERVICES if service.ref == spec.east_west and not of_network else 0


def gateways_into(
    spec: ClusterSpec, services: Iterable[ServiceFacts], declared: Iterable[DeclaredGateway]
) -> tuple[NetworkGateway, ...]:
    """The gateways into a cluster's network: those of its own Services, and those with an address in `meshNetworks`,
    which are of no cluster. Addresses may be host names."""
    declared = tuple(declared)
    found = [
        NetworkGateway(network=spec.network, cluster=spec.name, address=address, port=port)
        for service in services
        if (port := gateway_port(service, spec, declared))
        for address in service.addresses
    ]
    found += [
        NetworkGateway(network=spec.network, cluster="", address=gateway.address, port=gateway.port)
        for gateway in declared
        if gateway.network == spec.network and gateway.address
    ]
    return tuple(dict.fromkeys(found))


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def resolver(kube: Kube, pod: PodFacts | None) -> Callable[[str], tuple[str, ...]]:
    """How an istiod resolves host names of gateways: by its cluster's DNS, queried from a client pod there, or without
    one by this machine's."""

    def resolve(name: str) -> tuple[str, ...]:
        if pod is not None:
            return nslookup(kube, pod.namespace, pod.name, names.CLIENT_POD, name)
        return tuple(sorted(set(_here(name))))

    return resolve


def _here(name: str) -> Iterator[str]:
    try:
        yield from (str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    except OSError:
        return
