"""AuthorizationPolicies that keep anonymous requests from an ingress gateway.

Where users must present a token, ours are rejected, though nothing is wrong with the mesh.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from meshproof.clients.istio.configuration import PROBE_DOMAIN, place_of
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names

_IDENTITY: Final = ("principals", "requestPrincipals", "namespaces", "serviceAccounts")
"""Fields of a source that no anonymous request from outside has."""
_ADDRESS: Final = ("ipBlocks", "remoteIpBlocks", "notIpBlocks", "notRemoteIpBlocks")
_IDENTITY_KEYS: Final = ("request.auth.", "source.principal", "source.namespace", "source.serviceAccount")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnonymousRequest:
    """A request as the policy of a gateway sees it."""

    host: str
    path: str
    method: str


OURS: Final = (
    AnonymousRequest(host=names.APP_HOST, path="/", method="GET"),
    AnonymousRequest(host=f"any.{PROBE_DOMAIN}", path="/", method="GET"),
    AnonymousRequest(host=f"any.{PROBE_DOMAIN}", path="/unknown", method="GET"),
    AnonymousRequest(host=f"any.{PROBE_DOMAIN}", path="/", method="POST"),
)
"""The kinds of requests that claims send through ingress gateways."""


def rejecting_policies(policies: Iterable[Json], namespaces: Set[str], labels: Mapping[str, str]) -> tuple[str, ...]:
    """The policies because of which a gateway with these pod labels rejects anonymous requests, or may do so. Those in
    its own and in the mesh's root namespace (`namespaces`) apply to it.

    A condition that cannot be evaluated from here, such as the client's address behind a load balancer, counts as
    one that rejects. The order of evaluation is Istio's: CUSTOM, DENY, ALLOW (istio.io, Authorization Policy).
    """
    selected = [policy for policy in policies if _selects(policy, namespaces, labels)]
    hostile = [p for p in selected if _action(p) in ("CUSTOM", "DENY") and _may_match(p)]
    allowing = [p for p in selected if _action(p) == "ALLOW"]
    if allowing and not all(any(_matches(p, request) is True for p in allowing) for request in OURS):
        hostile += allowing
    return tuple(place_of(policy | {"kind": "AuthorizationPolicy"}) for policy in hostile)


def _action(policy: Json) -> str:
    return str((policy.get("spec") or {}).get("action") or "ALLOW")


def _selects(policy: Json, namespaces: Set[str], labels: Mapping[str, str]) -> bool:
    """By selector; `targetRefs` attach a policy to gateways of the Gateway API, which do not take our routes."""
    spec = policy.get("spec") or {}
    if policy["metadata"]["namespace"] not in namespaces or spec.get("targetRefs"):
        return False
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    return bool(wanted.items() <= dict(labels).items())


def _may_match(policy: Json) -> bool:
    return any(_matches(policy, request) is not False for request in OURS)


def _matches(policy: Json, request: AnonymousRequest) -> bool | None:
    """Whether one of the rules matches the request; None if that depends on what is not known here."""
    results = [_rule_matches(rule, request) for rule in (policy.get("spec") or {}).get("rules") or []]
    return True if True in results else None if None in results else False


def _rule_matches(rule: Json, request: AnonymousRequest) -> bool | None:
    parts = [_any(_source_matches((part or {}).get("source") or {}) for part in rule.get("from") or [])]
    parts += [_any(_operation_matches((part or {}).get("operation") or {}, request) for part in rule.get("to") or [])]
    parts += [_condition_matches(condition) for condition in rule.get("when") or []]
    return False if False in parts else None if None in parts else True


def _any(results: Iterable[bool | None]) -> bool | None:
    found = list(results)
    return True if not found or True in found else None if None in found else False


def _source_matches(source: Json) -> bool | None:
    if any(source.get(key) for key in _IDENTITY):
        return False
    return None if any(source.get(key) for key in _ADDRESS) else True


def _operation_matches(operation: Json, request: AnonymousRequest) -> bool | None:
    for key, value in (("hosts", request.host), ("paths", request.path), ("methods", request.method)):
        excluded = operation.get(f"not{key.capitalize()}") or []
        if excluded and _one_of(value, excluded, ignore_case=key == "hosts"):
            return False
        if operation.get(key) and not _one_of(value, operation[key], ignore_case=key == "hosts"):
            return False
    return None if operation.get("ports") or operation.get("notPorts") else True


def _one_of(value: str, patterns: Sequence[str], *, ignore_case: bool) -> bool:
    """Exact, prefix, suffix or presence match, as in AuthorizationPolicy."""
    if ignore_case:
        value, patterns = value.lower(), [pattern.lower() for pattern in patterns]
    return any(
        value.startswith(pattern[:-1])
        if pattern.endswith("*")
        else value.endswith(pattern[1:])
        if pattern.startswith("*")
        else value == pattern
        for pattern in patterns
    )


def _condition_matches(condition: Json) -> bool | None:
    if not str(condition.get("key", "")).startswith(_IDENTITY_KEYS):
        return None
    return not condition.get("values")
