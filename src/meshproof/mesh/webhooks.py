"""The injection webhooks of a cluster: the address and server name that its API server uses, and the CA that it
trusts."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.core.names import INJECTOR_LABEL

DEFAULT_PORT: Final = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """The target of one injection webhook. `ca` is its caBundle as PEM, empty if it has none or it cannot be
    decoded."""

    name: str
    host: str
    port: int
    path: str
    ca: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}{self.path}"


def injection_webhooks(kube: Kube) -> tuple[Webhook, ...]:
    """The targets without duplicates (there are several webhooks, one per pod selector)."""
    found = [
        parse_webhook(webhook)
        for configuration in kube.list("MutatingWebhookConfiguration", labels=INJECTOR_LABEL)
        for webhook in configuration.get("webhooks") or []
    ]
    return tuple({(w.host, w.port, w.path, w.ca): w for w in found}.values())


def parse_webhook(webhook: Json) -> Webhook:
    """The server name of a Service is `<name>.<namespace>.svc` (Kubernetes API reference, WebhookClientConfig)."""
    config = webhook.get("clientConfig") or {}
    try:
        ca = base64.b64decode(config.get("caBundle") or "", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        ca = ""
    service = config.get("service")
    if service:
        host, port, path = f"{service['name']}.{service['namespace']}.svc", service.get("port"), service.get("path")
    else:
        url = urlsplit(config.get("url") or "")
        host, port, path = url.hostname or "", url.port, url.path
    return Webhook(name=webhook.get("name") or "", host=host, port=int(port or DEFAULT_PORT), path=path or "/", ca=ca)
