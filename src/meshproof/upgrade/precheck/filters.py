"""EnvoyFilters reduced to what an upgrade of proxies may break."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from meshproof.clients.kubernetes.client import Json
from meshproof.upgrade.precheck.facts import Patch

EXTENSIONS: Final = frozenset({"NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER"})
"""Kinds of patches whose value is an extension of Envoy, with a name and a typed configuration."""
_INSERTS: Final = frozenset({"INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST", "ADD", "REPLACE"})
_OLD: Final = ("type.googleapis.com/envoy.api.v2.", "type.googleapis.com/envoy.config.filter.")
"""Envoy's API v2 (envoyproxy.io, xDS API v2 is removed): types of v3 are called `envoy.extensions.…v3` and so on."""


def patches_of(found: Json) -> Iterator[Patch]:
    """The patches of one EnvoyFilter."""
    name = f"{found['metadata']['namespace']}/{found['metadata']['name']}"
    for patch in (found.get("spec") or {}).get("configPatches") or []:
        kind = str(patch.get("applyTo") or "")
        change = patch.get("patch") or {}
        value = change.get("value") or {}
        inserted = kind in EXTENSIONS and change.get("operation") in _INSERTS
        yield Patch(
            filter=name,
            kind=kind,
            version=str(((patch.get("match") or {}).get("proxy") or {}).get("proxyVersion") or ""),
            untyped=tuple(_untyped(value)) if inserted else (),
            old_types=tuple(dict.fromkeys(_old_types(value))),
        )


def _untyped(value: Json) -> Iterator[str]:
    """The extension itself, if it has neither a typed configuration nor one that is discovered."""
    if not {"typed_config", "typedConfig", "config_discovery", "configDiscovery"} & value.keys():
        yield str(value.get("name") or "an extension without a name")


def _old_types(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        url = value.get("@type")
        if isinstance(url, str) and url.startswith(_OLD) and ".v3." not in url:
            yield url
        for each in value.values():
            yield from _old_types(each)
    elif isinstance(value, list):
        for each in value:
            yield from _old_types(each)
