"""Variants of ingress gateways: their ports, who may pass, and what others serve there."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from meshproof.calibration.variants.common import SYSTEM, thing, with_ingress
from meshproof.calibration.variants.legal_mesh import Skip
from meshproof.calibration.variants.variant import Variant
from meshproof.clients.istio.configuration import opened
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.core.model import GatewayRef
from meshproof.faults.catalogue.common import HAS_INGRESS, gateway_service_key
from meshproof.faults.editor import JournalledEditor
from meshproof.mesh.gateways import ingress_selectors

ISSUER: Final = "testing@secure.istio.io"
THROUGH_INGRESS: Final = ("TRAFFIC-01", "TRAFFIC-08")
HTTPS: Final[Json] = {"name": "https", "port": 443, "targetPort": 8443, "protocol": "TCP"}
EXTRA: Final[tuple[Json, ...]] = (
    HTTPS,
    {"name": "tcp", "port": 31400, "targetPort": 31400, "protocol": "TCP"},
    {"name": "tcp-orders", "port": 9000, "targetPort": 9000, "protocol": "TCP"},
)


def _edit_services(editor: JournalledEditor, change: Callable[[Json], None]) -> None:
    """Change the Service of every ingress gateway."""
    for cluster, gateway in with_ingress(editor.mesh.clusters):
        editor.edit(cluster, *gateway_service_key(gateway), change)


def _extra_port(editor: JournalledEditor) -> None:
    def change(service: Json) -> None:
        ports = service["spec"]["ports"]
        there = {port["port"] for port in ports}
        ports += [port for port in EXTRA if port["port"] not in there]

    _edit_services(editor, change)


def _only_443(editor: JournalledEditor) -> None:
    def change(service: Json) -> None:
        kept = [port for port in service["spec"]["ports"] if port["port"] not in (names.PORT_INGRESS, HTTPS["port"])]
        service["spec"]["ports"] = [*kept, HTTPS]

    _edit_services(editor, change)


def _token_required(editor: JournalledEditor) -> None:
    rule = {"issuer": ISSUER, "jwks": json.dumps({"keys": [_public_key()]})}
    for primary in editor.mesh.primaries:
        for number, selector in enumerate(ingress_selectors(editor.mesh, primary), start=1):
            chosen = {"selector": {"matchLabels": dict(selector)}}
            editor.add(
                primary,
                thing("RequestAuthentication", f"tokens-{number}", SYSTEM, spec={**chosen, "jwtRules": [rule]}),
            )
            denied = {"action": "DENY", "rules": [{"from": [{"source": {"notRequestPrincipals": ["*"]}}]}]}
            editor.add(
                primary, thing("AuthorizationPolicy", f"token-required-{number}", SYSTEM, spec={**chosen, **denied})
            )


def _public_key() -> Json:
    """A JSON Web Key (RFC 7517) for which nobody has the private key."""
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode() for n in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "tokens", "x": x, "y": y}


def _redirect(editor: JournalledEditor) -> None:
    """samples of istio.io, Secure Gateways: everything at port 80 is redirected to HTTPS."""
    server = {
        "port": {"number": names.PORT_INGRESS, "name": "http", "protocol": "HTTP"},
        "hosts": ["*"],
        "tls": {"httpsRedirect": True},
    }
    for primary in editor.mesh.primaries:
        for made in opened("redirect-to-https", SYSTEM, ingress_selectors(editor.mesh, primary), [server]):
            editor.add(primary, thing("Gateway", made["metadata"]["name"], SYSTEM, spec=made["spec"]))


def _own_client_addresses(editor: JournalledEditor) -> None:
    def change(service: Json) -> None:
        service["spec"]["externalTrafficPolicy"] = "Local"

    for cluster in editor.mesh.clusters:
        ingress = (cluster.spec.ingress,) if cluster.spec.ingress else ()
        east_west = (cluster.spec.east_west,) if editor.topology.needs_east_west_gateway(cluster.spec) else ()
        gateways: tuple[GatewayRef, ...] = (*ingress, *east_west)
        for gateway in gateways:
            editor.edit(cluster, *gateway_service_key(gateway), change)


INGRESS: Final = (
    Variant(
        id="extra-port",
        sentence="the ingress gateways' Services list further ports",
        legal="istio.io, Ingress Gateways; the default profile lists 443, others 31400",
        needs=(HAS_INGRESS,),
        apply=_extra_port,
    ),
    Variant(
        id="only-443",
        sentence="the ingress gateways have no port 80",
        legal="istio.io, Secure Gateways: port 443 is all that HTTPS needs",
        needs=(HAS_INGRESS,),
        apply=_only_443,
        skips=(Skip(codes=THROUGH_INGRESS, reason="has no port 80"),),
        still_kills=("S1",),
    ),
    Variant(
        id="jwt-ingress",
        sentence="the ingress gateways reject requests without a token",
        legal="istio.io, JWT Token: require valid tokens, by DENY without request principal",
        needs=(HAS_INGRESS,),
        apply=_token_required,
        skips=(Skip(codes=THROUGH_INGRESS, reason="requests without credentials are rejected by"),),
    ),
    Variant(
        id="redirect-ingress",
        sentence="somebody's Gateway redirects every host to HTTPS",
        legal="istio.io, Gateway: httpsRedirect",
        needs=(HAS_INGRESS,),
        apply=_redirect,
        still_kills=("P12",),
    ),
    Variant(
        id="client-addresses",
        sentence="the gateways' Services keep the clients' addresses",
        legal="Kubernetes, Services: externalTrafficPolicy Local; istio.io, Ingress Gateways",
        apply=_own_client_addresses,
    ),
)
