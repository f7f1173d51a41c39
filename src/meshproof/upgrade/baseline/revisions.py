"""A record without the name of its revision: an upgrade by revision changes it everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from meshproof.core import names
from meshproof.upgrade.baseline.model import ISTIOD, VERSION, Key, Record
from meshproof.upgrade.baseline.normalise import normal

NAMED: Final = ("istiod", "istio-sidecar-injector", "istio-validator", "istio")
"""Objects that have the revision in their name (chart istio-discovery): Service, webhooks, ConfigMaps."""


def without_revision(record: Record) -> Record:
    """The same with the names of the default revision, if all istiods are of one that is another.

    Where two revisions run side by side they stay apart. What the default revision has left behind keeps its name,
    and that of the new one stays as it is beside it.
    """
    told = {key.workload.partition(f"/{names.ISTIOD}")[2] for key in record.parts if _is_istiod(key)}
    revision = told.pop().removeprefix("-") if len(told) == 1 else ""
    if not revision:
        return record
    renamed = _renaming(revision)

    def of_webhook(text: str) -> str:
        return names.DEFAULT_REVISION if text == revision else renamed(text)

    parts = {}
    for key, content in record.parts.items():
        other = Key(cluster=key.cluster, workload=renamed(key.workload), kind=key.kind, name=renamed(key.name))
        known = key if other != key and other in record.parts else other
        parts[known] = normal(content, of_webhook if key.kind == "webhook" else renamed)
    return replace(record, parts=parts)


def _is_istiod(key: Key) -> bool:
    return (key.kind, key.name) == (VERSION, ISTIOD)


def _renaming(revision: str) -> Callable[[str], str]:
    pattern = re.compile(rf"(?<![\w-])({'|'.join(NAMED)})-{re.escape(revision)}(?=-istio-system|[^a-zA-Z0-9-]|$)")
    return lambda text: pattern.sub(r"\1", text)
