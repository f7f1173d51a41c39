"""Variants of security policies."""

from __future__ import annotations

from typing import Final

from meshproof.calibration.variants.common import (
    SYSTEM,
    add_everywhere,
    east_west_selectors,
    set_mesh_configs,
    thing,
)
from meshproof.calibration.variants.variant import Variant
from meshproof.clients.kubernetes.client import Json
from meshproof.faults.editor import JournalledEditor
from meshproof.mesh.gateways import ingress_selectors


def _strict(editor: JournalledEditor) -> None:
    policy = thing("PeerAuthentication", "default", SYSTEM, spec={"mtls": {"mode": "STRICT"}})
    add_everywhere(editor, editor.mesh.primaries, policy)


def _deny_all(editor: JournalledEditor) -> None:
    for primary in editor.mesh.primaries:
        editor.add(primary, thing("AuthorizationPolicy", "allow-nothing", SYSTEM, spec={}))
        selectors = (*ingress_selectors(editor.mesh, primary), *east_west_selectors(editor, primary))
        for number, selector in enumerate(selectors, start=1):
            spec: Json = {"selector": {"matchLabels": dict(selector)}, "action": "ALLOW", "rules": [{}]}
            editor.add(primary, thing("AuthorizationPolicy", f"allow-gateway-{number}", SYSTEM, spec=spec))


def _registry_only(editor: JournalledEditor) -> None:
    set_mesh_configs(editor, {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}})


SECURITY: Final = (
    Variant(
        id="strict",
        sentence="mutual TLS is required in the whole mesh",
        legal="istio.io, Authentication Policy: globally enabling Istio mutual TLS in STRICT mode",
        apply=_strict,
    ),
    Variant(
        id="deny-all",
        sentence="the root namespace denies all requests that no policy allows, except at gateways",
        legal="istio.io, Authorization Policy: allow-nothing; Security best practices",
        apply=_deny_all,
        still_kills=("G4",),
    ),
    Variant(
        id="registry-only",
        sentence="sidecars reach registered services only",
        legal="istio.io, Accessing External Services: REGISTRY_ONLY",
        apply=_registry_only,
    ),
)
