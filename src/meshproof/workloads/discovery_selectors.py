"""Labels that make istiods discover a namespace: `discoverySelectors` of their mesh configurations.

An istiod ignores namespaces that none of its selectors matches, in every cluster that it reads: no certificate for
them, no endpoints, no configuration (istio.io, Discovery Selectors).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final

from meshproof.clients.kubernetes.client import Json
from meshproof.core.errors import BadInput

NAME_LABEL: Final = "kubernetes.io/metadata.name"
"""Kubernetes gives every namespace this label with its name; it cannot be changed."""
ANY: Final = "enabled"
"""The value of a label that only has to exist."""

Selectors = Sequence[Json]
"""Label selectors of one mesh configuration: one match is enough. Empty: every namespace is discovered."""


def matches(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects these labels (Kubernetes, LabelSelector)."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions") or [])


def _holds(expression: Json, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def selected(selectors: Selectors, labels: Mapping[str, str]) -> bool:
    """Whether an istiod with these selectors discovers a namespace with these labels."""
    return not selectors or any(matches(selector, labels) for selector in selectors)


def labels_for(name: str, labels: Mapping[str, str], selectors: Mapping[str, Selectors]) -> dict[str, str]:
    """The labels that the namespace needs in addition, so that each istiod (by cluster) discovers it.

    Raises `BadInput` with the selectors that cannot be satisfied together with `labels`.
    """
    fixed = {NAME_LABEL: name, **labels}
    open_ones = {owner: found for owner, found in selectors.items() if not selected(found, fixed)}
    for choice in product(*open_ones.values()):
        wanted = _satisfying(choice, fixed)
        if wanted is not None and all(selected(found, wanted) for found in selectors.values()):
            return {key: value for key, value in wanted.items() if key not in fixed}
    lines = [f"{owner}: {json.dumps(selector)}" for owner, found in open_ones.items() for selector in found]
    raise BadInput(
        f"namespace {name}",
        "with no label that meshproof may give it would istiod discover it:\n  discoverySelectors of "
        + "\n  discoverySelectors of ".join(lines),
        f"let one of the mesh's discoverySelectors select {name}",
    )


def _satisfying(selectors: Sequence[Json], fixed: Mapping[str, str]) -> dict[str, str] | None:
    """`fixed` and what else these selectors want; None if they contradict it or each other."""
    labels = dict(fixed)
    for selector in selectors:
        for key, value in (selector.get("matchLabels") or {}).items():
            labels.setdefault(key, value)
    expressions = [each for selector in selectors for each in selector.get("matchExpressions") or []]
    for key in dict.fromkeys(each["key"] for each in expressions if each["operator"] in ("In", "Exists")):
        about = [each for each in expressions if each["key"] == key]
        candidates = [value for each in about for value in each.get("values") or [] if each["operator"] == "In"]
        good = [v for v in (*candidates, ANY) if all(_holds(each, {key: v}) for each in about)]
        if good:
            labels.setdefault(key, good[0])
    return labels if all(matches(selector, labels) for selector in selectors) else None
