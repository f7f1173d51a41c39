"""Rights of the account with which other clusters' istiods read a cluster, from roles and bindings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.rbac import AccessRule as Right
from meshproof.clients.kubernetes.rbac import right_text
from meshproof.discovery.remote_secrets import token_claims
from meshproof.upgrade.precheck.facts import ReaderAccount

_PREFIX = "system:serviceaccount:"


def account_of(token: str) -> str:
    """`namespace:name` of the token's service account (claim `sub`); empty for other tokens."""
    subject = str(token_claims(token).get("sub", ""))
    return subject.removeprefix(_PREFIX) if subject.startswith(_PREFIX) else ""


def reader_of(account: str, bindings: Iterable[Json], roles: Sequence[Json]) -> ReaderAccount:
    """The account's rights from ClusterRoles, by its name or groups, including aggregated roles."""
    by_name = {role["metadata"]["name"]: role for role in roles}
    bound = {
        binding["roleRef"]["name"]: None
        for binding in bindings
        if binding.get("roleRef", {}).get("kind") == "ClusterRole"
        and any(_is(subject, account) for subject in binding.get("subjects") or [])
    }
    rights = [right for name in bound if name in by_name for right in _rights(by_name[name], roles)]
    return ReaderAccount(account=account, rights=tuple(dict.fromkeys(rights)))


def _is(subject: Json, account: str) -> bool:
    namespace, _, name = account.partition(":")
    if subject.get("kind") == "ServiceAccount":
        return (subject.get("namespace"), subject.get("name")) == (namespace, name)
    if subject.get("kind") == "User":
        return bool(subject.get("name") == f"{_PREFIX}{account}")
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return subject.get("kind") == "Group" and subject.get("name") in groups


def _rights(role: Json, roles: Sequence[Json]) -> Iterator[Right]:
    """Its own rules, and those of roles that it aggregates, which the controller may not have copied yet."""
    rules = list(role.get("rules") or [])
    for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []:
        wanted = selector.get("matchLabels") or {}
        for other in roles:
            labels = other["metadata"].get("labels") or {}
            if wanted and other is not role and wanted.items() <= labels.items():
                rules += other.get("rules") or []
    for rule in rules:
        if rule.get("resourceNames"):
            continue  # only for some objects; istiod lists all
        for group in rule.get("apiGroups") or []:
            yield Right(group=group, resources=tuple(rule.get("resources") or ()), verbs=tuple(rule["verbs"]))


def lacking(reader: ReaderAccount, wanted: Iterable[Right]) -> list[str]:
    """The missing rights, such as `list secrets`; all verbs of a resource together."""
    found = []
    for right in wanted:
        for resource in right.resources:
            verbs = [
                verb for verb in right.verbs if not any(_gives(r, right.group, resource, verb) for r in reader.rights)
            ]
            if verbs:
                found.append(right_text(right.group, resource, ", ".join(verbs)))
    return found


def _gives(right: Right, group: str, resource: str, verb: str) -> bool:
    return (
        right.group in ("*", group)
        and not {"*", resource}.isdisjoint(right.resources)
        and not {"*", verb}.isdisjoint(right.verbs)
    )
