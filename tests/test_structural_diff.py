"""Where two values differ."""

from __future__ import annotations

from typing import Any

import pytest

from meshproof.core.structural_diff import Change, differences


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"b": 1, "a": {"x": 1}}, {"b": 2, "a": {"x": 2}}, [("a.x", 1, 2), ("b", 1, 2)]),
        ({"labels": {"istio.io/rev": "a"}}, {"labels": {}}, [("labels[istio.io/rev]", "a", None)]),
        ([{"b": 1}, {"b": 2}], [{"b": 1}, {"b": 3}], [("[1].b", 2, 3)]),
        ({"a": [1]}, {"a": [1, 2]}, [("a", [1], [1, 2])]),
        ({"a": [1]}, {"a": {"1": 1}}, [("a", [1], {"1": 1})]),
    ],
)
def test_the_innermost_differences_are_found(before: Any, after: Any, found: list[Change]) -> None:
    assert list(differences(before, after)) == found
    assert [path for path, *_ in differences(before, after, "spec")] == [
        f"spec{path}" if path.startswith("[") else f"spec.{path}" for path, *_ in found
    ]


def test_what_is_the_same_is_for_the_caller_to_say() -> None:
    assert list(differences({"key": "a"}, {"key": "*"}, same=lambda a, b: b in (a, "*"))) == []
