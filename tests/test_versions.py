"""Which versions go together."""

from __future__ import annotations

import pytest

from meshproof.controlplane.versions import (
    RELEASE_LABELS,
    Versions,
    charts_have_releases,
    crd_problems,
    crd_versions,
    served_crds,
    union,
)
from meshproof.core.versions import Version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.31.0", Version(1, 31)),
        ("v1.30.4-distroless", Version(1, 30)),
        ("1.31.0-eed52ebb66ad-eed52ebb66ad-Clean", Version(1, 31)),
        ("1.31-alpha.3c9", Version(1, 31)),
        ("unknown", None),
        ("", None),
    ],
)
def test_versions_are_read_to_the_minor(text: str, version: Version | None) -> None:
    assert Version.parse(text) == version


def versions(
    *,
    istiods: tuple[str, ...] = ("1.31.0",),
    proxy: tuple[str, str] = ("1.31.0", "1.31.0"),
    istioctl: str = "1.31.0",
    crd: str = "1.31.0",
) -> dict[str, list[str]]:
    seen = Versions(
        istiods={f"istiod{n}": text for n, text in enumerate(istiods)},
        proxies={"shop": proxy},
        crds={"crd": crd},
        istioctl=istioctl,
    )
    return {name: problems for name, problems in seen.problems().items() if problems}


def test_one_minor_version_of_skew_is_supported() -> None:
    assert versions(istiods=("1.31.0", "1.30.4"), proxy=("1.30.4", "1.31.0"), istioctl="1.32.0", crd="1.30.0") == {}


def test_what_is_too_far_apart_is_named_with_both_versions() -> None:
    assert versions(istiods=("1.31.0", "1.29.1"), istioctl="1.33.0", crd="0.31.0") == {
        "istiod1": ["version 1.29.1 and 1.31 of the newest istiod are too far apart (one minor version is supported)"],
        "istioctl": ["version 1.33.0 and 1.31 of the newest istiod are too far apart (one minor version is supported)"],
        "crd": ["version 0.31.0 and 1.31 of the newest istiod are too far apart (one minor version is supported)"],
    }


def test_a_proxy_may_be_behind_its_own_istiod_but_never_ahead() -> None:
    assert versions(proxy=("1.29.0", "1.31.0")) == {
        "shop": ["version 1.29.0 is too old for its istiod, 1.31.0: restart the pod"]
    }
    assert versions(proxy=("1.31.0", "1.30.4")) == {
        "shop": ["version 1.31.0 is ahead of its istiod, 1.30.4: upgrade istiod first"]
    }
    assert versions(proxy=("", "1.30.4")) == {"shop": ["'' or that of its istiod, '1.30.4', is not a version"]}


def crd(name: str, *served: str, **labels: str) -> dict[str, object]:
    versions = [{"name": v, "served": True} for v in served] + [{"name": "v0", "served": False}]
    labels = {key.replace("__", "/"): value for key, value in labels.items()}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"versions": versions}}


def test_crds_must_serve_what_another_clusters_serve() -> None:
    one = served_crds([crd("a.istio.io", "v1", "v1beta1"), crd("b.istio.io", "v1"), crd("c.example.com", "v1")])
    two = served_crds([crd("a.istio.io", "v1")])
    assert crd_problems(one, union([one, two])) == []
    assert crd_problems(two, union([one, two])) == [
        "CRD b.istio.io is missing",
        "CRD a.istio.io does not serve v1beta1, another cluster's does",
    ]


def test_crds_tell_their_version_where_the_installer_wrote_it() -> None:
    found = [crd("a.istio.io", "v1", helm__sh=""), {"metadata": {"name": "b.istio.io"}, "spec": {"versions": []}}]
    assert crd_versions(found) == {}
    labelled = {"metadata": {"name": "a.istio.io", "labels": {"helm.sh/chart": "base-1.31.0"}}}
    assert crd_versions([labelled]) == {"a.istio.io": "1.31.0"}


def test_a_charts_number_counts_only_where_istiods_own_is_its_release() -> None:
    labelled = {"metadata": {"name": "a.istio.io", "labels": {"helm.sh/chart": "base-9.2.0"}}}
    assert crd_versions([labelled], RELEASE_LABELS) == {}
    assert charts_have_releases([({"helm.sh/chart": "istiod-1.31.0"}, "1.31.0-abc-Clean")])
    assert charts_have_releases([({"app.kubernetes.io/version": "1.31.2", "helm.sh/chart": "istiod-7.0.1"}, "1.31.0")])
    assert not charts_have_releases([({"helm.sh/chart": "istiod-1.0.0"}, "1.31.0")])
    assert not charts_have_releases([({"app": "istiod"}, "1.31.0")])
    assert not charts_have_releases([])
