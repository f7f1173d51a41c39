"""Clusters, listeners and routes of one proxy, as istiod would send them and as Envoy has them.

Both return an `envoy.admin.v3.ConfigDump` in JSON. istiod (`/debug/config_dump?proxyID=`) writes fields in
camelCase, Envoy (`/config_dump`) as in the proto definition. `istioctl proxy-status POD` compares the same two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from meshproof.clients import envoy_admin as envoy
from meshproof.clients.istio import istiod_debug as istiod
from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.core.errors import Broken
from meshproof.core.structural_diff import differences

ProxyConfig = Mapping[str, Json]
"""By kind and name (`cluster outbound|80||shop.ns.svc.cluster.local`) its content, fields in camelCase."""

REDACTED: Final = "[redacted]"
"""Envoy's replacement for values that may be secret."""


def istiod_config(kube: Kube, replica: str, proxy: str) -> ProxyConfig:
    """The configuration that this istiod generates for a connected proxy (`<pod>.<namespace>`)."""
    return parse_dump(istiod.debug(kube, replica, f"config_dump?proxyID={proxy}"), f"istiod {replica} on {kube.name}")


def proxy_config(kube: Kube, namespace: str, pod: str) -> ProxyConfig:
    """A proxy's active configuration. A listener without an accepted version has its `errorState` instead."""
    return parse_dump(envoy.admin(kube, namespace, pod, "/config_dump"), f"{namespace}/{pod} on {kube.name}")


def parse_dump(text: str, whose: str) -> ProxyConfig:
    try:
        parts = camel(json.loads(text))["configs"]
    except (ValueError, KeyError, TypeError):
        raise Broken(
            f"config dump of {whose}", f"cannot be parsed: {text[:200]!r}", "check that the proxy is connected"
        ) from None
    return {f"{kind} {thing['name']}": thing for part in parts for kind, thing in things(part)}


def things(part: Json) -> Iterator[tuple[str, Json]]:
    """Kind and content of the resources in one part of a dump, fields in camelCase."""
    match str(part.get("@type")).rpartition(".")[2]:
        case "ClustersConfigDump":
            for each in part.get("dynamicActiveClusters") or []:
                yield "cluster", each["cluster"]
        case "ListenersConfigDump":
            for each in part.get("dynamicListeners") or []:
                # One that has only a drainingState was removed: it remains until its connections are closed.
                if "activeState" in each:
                    yield "listener", each["activeState"]["listener"]
                elif "errorState" in each:
                    yield "listener", {"name": each["name"], "errorState": each["errorState"]}
        case "RoutesConfigDump":
            for each in part.get("dynamicRouteConfigs") or []:
                yield "route", each["routeConfig"]


def camel(value: Any) -> Any:
    """A value with all field names in camelCase."""
    if isinstance(value, dict):
        return {_SNAKE.sub(lambda found: found[1].upper(), key): camel(each) for key, each in value.items()}
    return [camel(each) for each in value] if isinstance(value, list) else value


_SNAKE: Final = re.compile(r"_([a-z0-9])")


def difference(wants: object, holds: object, path: str = "") -> str:
    """The first difference between two resources, with both values; empty if they are equal."""
    found = next(differences(wants, holds, path, same=lambda sent, held: held in (sent, REDACTED)), None)
    if found is None:
        return ""
    where, sent, held = found
    return f"{where}: istiod has {_shown(sent)}, the proxy has {_shown(held)}"


def _shown(value: object) -> str:
    return "nothing" if value is None else json.dumps(value)[:80]
