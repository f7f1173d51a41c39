"""The steps of an upgrade, judgement of their results, and the report page, without a cluster."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshproof.claims.findings import Findings
from meshproof.claims.results import Result
from meshproof.claims.suite_run import SuiteRun
from meshproof.clients.kubernetes.client import Json
from meshproof.core.errors import Broken, ClaimFailed
from meshproof.core.topology import TOPOLOGIES, as_yaml, load_topology
from meshproof.install.gateways import istiod_exposed
from meshproof.load.history import Mark, Request, RequestOutcome
from meshproof.mesh.handles import Mesh
from meshproof.report.upgrade_page import page
from meshproof.upgrade.rehearsal.component_versions import Components
from meshproof.upgrade.rehearsal.control_plane import ControlPlane
from meshproof.upgrade.rehearsal.judge import judge_rehearsal, problems_of
from meshproof.upgrade.rehearsal.revision_references import pointing_at
from meshproof.upgrade.rehearsal.run import Rehearsal, StepResult, named
from meshproof.upgrade.rehearsal.steps import RETURNED, TARGET, RehearsalStep, by_revision_steps, in_place_steps
from tests.fakes import mesh_of, toolbox
from tests.install_fakes import fake_mesh, fake_of

OLD = ControlPlane(toolbox=replace(toolbox(), istio_version="1.30.4-abc"))
NEW = ControlPlane(toolbox=replace(toolbox(), istio_version="1.31.0-def"))
CANARY = replace(NEW, revision="1-31")
ALL = sorted(path.stem for path in TOPOLOGIES.glob("*.yaml"))


def no_clients() -> None:
    """There are no long-lived clients to recreate."""


def names_of(steps: tuple[RehearsalStep, ...]) -> list[str]:
    return [f"{step.name}{' <-' if step.back else ''}{'' if step.proven else ' .'}" for step in steps]


# -- steps ------------------------------------------------------------------------------------------------------------


def test_in_place_goes_cluster_by_cluster_and_both_mixtures_are_seen() -> None:
    assert names_of(in_place_steps(mesh_of("multi-primary-multinet"), OLD, NEW)) == [
        "istiod of cluster1 to 1.31 .",
        "istiod of cluster1 back to 1.30 <- .",
        "istiod of cluster1 to 1.31",
        "proxies of cluster1 to 1.31",
        "istiod of cluster2 to 1.31 .",
        "istiod of cluster2 back to 1.30 <- .",
        "istiod of cluster2 to 1.31",
        "proxies of cluster2 to 1.31",
        "istiod of cluster1 back to 1.30, with the proxies that it controls <-",
        "istiod of cluster2 back to 1.30, with the proxies that it controls <-",
    ]


def test_a_remote_goes_after_its_primary_and_stays_new_for_longer() -> None:
    assert names_of(in_place_steps(mesh_of("primary-remote-samenet"), OLD, NEW))[3:] == [
        "proxies of cluster1 to 1.31",
        "istiod reference of cluster2 to 1.31",
        "proxies of cluster2 to 1.31",
        "istiod of cluster1 back to 1.30, with the proxies that it controls <-",
        "istiod reference of cluster2 back to 1.30 <-",
    ]


def test_by_revision_both_control_planes_run_until_the_old_one_is_unused() -> None:
    there = names_of(by_revision_steps(mesh_of("primary-remote-multinet"), OLD, CANARY, no_clients))
    assert there == [
        "istiod 1.31 (revision 1-31) added in cluster1",
        "istiod reference 1.31 (revision 1-31) added in cluster2",
        "tag default of cluster2 to 1.31 (revision 1-31)",
        "tag default of cluster1 to 1.31 (revision 1-31)",
        "proxies of cluster2 to 1.31 (revision 1-31)",
        "proxies of cluster1 to 1.31 (revision 1-31)",
        "1.30 removed from cluster2",
        "1.30 removed from cluster1",
        "istiod 1.30 added in cluster1 <- .",
        "istiod reference 1.30 added in cluster2 <- .",
        "tag default of cluster2 to 1.30 <- .",
        "tag default of cluster1 to 1.30 <- .",
        "proxies of cluster2 to 1.30 <- .",
        "proxies of cluster1 to 1.30 <- .",
        "1.31 (revision 1-31) removed from cluster2 <- .",
        "1.31 (revision 1-31) removed from cluster1 <-",
    ]


@pytest.mark.parametrize("topology", ALL)
def test_a_rehearsal_reaches_the_target_and_ends_where_it_began(topology: str) -> None:
    mesh = mesh_of(topology)
    for steps in (in_place_steps(mesh, OLD, NEW), by_revision_steps(mesh, OLD, CANARY, no_clients)):
        assert [step.reaches for step in steps if step.reaches] == [TARGET, RETURNED]
        assert steps[-1].reaches == RETURNED
        assert steps[-1].governs == OLD
        assert all(step.proven for step in steps if step.reaches)


@pytest.mark.parametrize("topology", ALL)
def test_no_proxy_is_ever_ahead_of_its_istiod_after_a_step(topology: str) -> None:
    """Istio does not support it: an istiod is rolled back together with the proxies that it controls."""
    mesh = mesh_of(topology)
    new: set[str] = set()
    for step in in_place_steps(mesh, OLD, NEW):
        if step.name.startswith("proxies of "):
            new.add(step.name.split()[2])
        if step.name.startswith("istiod of ") and step.back:
            governed = {str(c.name) for c in mesh.controlled_by(mesh.cluster(step.name.split()[2]))}
            assert "with the proxies" in step.name or not new & governed
            new -= governed


def test_long_lived_clients_are_recreated_before_a_control_plane_is_removed() -> None:
    steps = by_revision_steps(mesh_of("multi-primary-samenet"), OLD, CANARY, no_clients)
    assert [step.name for step in steps if step.before is no_clients] == [
        "1.30 removed from cluster1",
        "1.31 (revision 1-31) removed from cluster1",
    ]


# -- planes and topologies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", ALL)
def test_a_topology_with_a_revision_can_be_written_and_read_again(topology: str, tmp_path: Path) -> None:
    mesh = mesh_of(topology)
    wanted = CANARY.topology_of(mesh)
    read = load_topology(named(wanted, mesh.topology, tmp_path))
    assert (read.name, read.clusters, read.mesh_id) == (wanted.name, wanted.clusters, wanted.mesh_id)
    assert {cluster.revision for cluster in read.clusters} == {"1-31"}


def test_the_installed_topology_is_called_by_its_name(tmp_path: Path) -> None:
    mesh = mesh_of("primary-remote-multinet")
    assert named(OLD.topology_of(mesh), mesh.topology, tmp_path) == "primary-remote-multinet"
    assert not list(tmp_path.iterdir())


def test_a_topology_of_ones_own_keeps_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(as_yaml(mesh_of("multi-primary-samenet").topology).replace("mesh1", "mesh7"))
    mine = load_topology(str(file))
    assert mine.mesh_id == "mesh7"
    assert load_topology(str(file)).clusters == mesh_of("multi-primary-samenet").topology.clusters


def test_istiods_of_two_revisions_are_distinguished_by_host_name() -> None:
    mesh = mesh_of("primary-remote-multinet")
    specs = [plane.topology_of(mesh).clusters[0] for plane in (OLD, CANARY)]
    service = istiod_exposed(specs)[1]["spec"]["tls"]
    assert [
        (r["match"][0]["port"], r["match"][0]["sniHosts"], r["route"][0]["destination"]["host"]) for r in service
    ] == [
        (15012, ["istiod.istio-system.svc"], "istiod.istio-system.svc.cluster.local"),
        (15017, ["istiod.istio-system.svc"], "istiod.istio-system.svc.cluster.local"),
        (15012, ["istiod-1-31.istio-system.svc"], "istiod-1-31.istio-system.svc.cluster.local"),
        (15017, ["istiod-1-31.istio-system.svc"], "istiod-1-31.istio-system.svc.cluster.local"),
    ]
    assert istiod_exposed(specs[:1])[1]["spec"]["tls"][0]["match"][0]["sniHosts"] == ["*"]


# -- what points at a control plane -----------------------------------------------------------------------------------


def thing(kind: str, name: str, namespace: str = "", **more: Any) -> Json:
    version = {"MutatingWebhookConfiguration": "admissionregistration.k8s.io/v1", "Deployment": "apps/v1"}
    meta: Json = {"name": name, **({"namespace": namespace} if namespace else {}), **more.pop("meta", {})}
    return {"apiVersion": version.get(kind, more.pop("api", "v1")), "kind": kind, "metadata": meta, **more}


def webhook(name: str, service: str, **labels: str) -> Json:
    call = {"clientConfig": {"service": {"namespace": "istio-system", "name": service}}}
    meta = {"labels": {key.replace("_", "/"): value for key, value in labels.items()}}
    return thing("MutatingWebhookConfiguration", name, webhooks=[call], meta=meta)


def seen(*things: Json) -> list[str]:
    mesh = fake_mesh(load_topology("primary-remote-samenet"))
    for each in things:
        fake_of(mesh.clusters[0]).put(each)
    return pointing_at(mesh, OLD)


def test_a_webhook_and_a_tag_point_at_the_service_that_they_call() -> None:
    old = webhook("istio-sidecar-injector", "istiod", **{"istio.io_rev": "default"})
    tag = webhook("istio-revision-tag-prod", "istiod", **{"istio.io_rev": "default", "istio.io_tag": "prod"})
    new = webhook("istio-sidecar-injector-1-31", "istiod-1-31", **{"istio.io_rev": "1-31"})
    assert seen(old, tag, new) == [
        "cluster1: MutatingWebhookConfiguration istio-sidecar-injector calls istiod",
        "cluster1: MutatingWebhookConfiguration istio-revision-tag-prod (tag prod) calls istiod",
    ]


def test_a_label_means_a_tag_where_there_is_one_of_that_name() -> None:
    namespace = thing("Namespace", "shop", meta={"labels": {"istio.io/rev": "default"}})
    moved = webhook("istio-revision-tag-default", "istiod-1-31", **{"istio.io_rev": "1-31", "istio.io_tag": "default"})
    assert seen(namespace) == ["cluster1: namespace shop is labelled istio.io/rev=default"]
    assert seen(namespace, moved) == []


def test_pods_objects_and_routes_are_seen() -> None:
    pod = thing("Pod", "web", "shop", meta={"annotations": {"istio.io/rev": "default"}})
    other = thing("Pod", "new", "shop", meta={"annotations": {"istio.io/rev": "1-31"}})
    left = thing("ConfigMap", "istio", "istio-system", meta={"labels": {"istio.io/rev": "default"}})
    route = thing(
        "VirtualService",
        "istiod-vs",
        "istio-system",
        api="networking.istio.io/v1",
        spec={"tls": [{"route": [{"destination": {"host": "istiod.istio-system.svc.cluster.local"}}]}]},
    )
    assert seen(pod, other, left, route) == [
        "cluster1: pod shop/web has a proxy of revision default",
        "cluster1: ConfigMap istio-system/istio is of revision default",
        "cluster1: VirtualService istio-system/istiod-vs names istiod.istio-system.svc",
    ]


# -- what is wrong with a step ----------------------------------------------------------------------------------------

AT = Mark(monotonic_s=100.0, wall=1_700_000_000.0)


RESILIENT = "cluster1 long-lived resilient"


def request(
    second: float, outcome: RequestOutcome = RequestOutcome.ANSWERED, source: str = "cluster1 client"
) -> Request:
    status = 200 if outcome is RequestOutcome.ANSWERED else 503
    return Request(
        sent_s=100.0 + second,
        wall=AT.wall + second,
        source=source,
        outcome=outcome,
        status=status,
        version="v1",
        latency_s=0.01,
    )


def mesh() -> Mesh:
    return mesh_of("multi-primary-multinet")


def step_result(number: int = 2, **changes: Any) -> StepResult:
    fields: dict[str, Any] = {
        "step": in_place_steps(mesh(), OLD, NEW)[number],
        "begin": AT,
        "end": AT.at(110.0),
        "done_s": 5.25,
        "healthy_s": 1.5,
        "requests": [request(n) for n in range(10)],
        "claims": SuiteRun(results={"TRUST-01": Result.SUCCEEDED, "TRUST-02": Result.SKIPPED}, seconds=20.0),
    }
    return StepResult(**{**fields, **changes})


def test_a_step_that_costs_nothing_is_good() -> None:
    assert problems_of(step_result()) == []


def test_requests_with_default_settings_are_reported_and_not_judged() -> None:
    default = step_result(
        requests=[
            request(1),
            request(2, RequestOutcome.REFUSED, "cluster1 long-lived"),
            request(3, source="cluster1 long-lived"),
        ]
    )
    assert (problems_of(default), len(default.lost), len(default.lost_by_default)) == ([], 0, 1)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"requests": [request(1), request(2, source=RESILIENT), request(2, RequestOutcome.REFUSED, RESILIENT)]},
            "1 of 2 requests with resilience settings lost: "
            "{clock} cluster1 long-lived resilient: HTTP 503 after 0.01 s",
        ),
        ({"healthy_s": None, "unhealthy": "no istiod"}, "not healthy afterwards: no istiod"),
        ({"requests": []}, "no request was sent"),
        ({"claims": None}, "no claim was evaluated after it"),
        ({"claims": SuiteRun(results={"TRUST-01": Result.SKIPPED})}, "no claim was evaluated after it"),
        (
            {"claims": SuiteRun(results={"TRUST-01": Result.SUCCEEDED}, unfinished="exit code 2")},
            "not all claims were evaluated after it: exit code 2",
        ),
        (
            {"claims": SuiteRun(results={"TRUST-01": Result.SUCCEEDED}, missing=("m: nothing about TRAFFIC",))},
            "not all claims were evaluated after it: m: nothing about TRAFFIC",
        ),
        (
            {"requests": [request(1), request(1, RequestOutcome.UNKNOWN, "cluster2 long-lived")]},
            "no request from cluster2 long-lived is known to have succeeded",
        ),
        (
            {
                "claims": SuiteRun(
                    results={"TRUST-01": Result.SUCCEEDED, "TRUST-02": Result.FAILED},
                    texts={"TRUST-02": "TRUST-02 one root: broke\n  last seen   two roots\n  mesh        x"},
                )
            },
            "TRUST-02 one root: broke | last seen   two roots",
        ),
    ],
)
def test_what_is_wrong_with_a_step_is_reported(changes: dict[str, Any], problem: str) -> None:
    problems = problems_of(step_result(**changes))
    wanted = problem.partition("{clock} ")
    assert len(problems) == 1
    assert problems[0].startswith(wanted[0])
    assert problems[0].endswith(wanted[2] or wanted[0])


def rehearsal(*results: StepResult, untaken: int = 0) -> Rehearsal:
    steps = in_place_steps(mesh(), OLD, NEW)
    return Rehearsal(method="in place", mesh=mesh(), old=OLD, new=NEW, results=list(results), untaken=steps[:untaken])


def test_skipped_steps_are_failures() -> None:
    findings = Findings("steps")
    judge_rehearsal(rehearsal(step_result(), untaken=1), findings)
    with pytest.raises(ClaimFailed, match=r"2\. istiod of cluster1 to 1\.31: not taken"):
        findings.conclude()


def test_a_starved_load_generator_casts_doubt_on_losses() -> None:
    findings = Findings("steps")
    judge_rehearsal(rehearsal(step_result(late_s=2.0, requests=[request(1, RequestOutcome.LOST, RESILIENT)])), findings)
    with pytest.raises(Broken, match=r"the load generator was starved of CPU \(behind schedule by 2\.0 s\)"):
        findings.conclude()


def claims_that(result: Result) -> SuiteRun:
    return SuiteRun(results={"TRUST-01": Result.SUCCEEDED, "TRUST-09": result})


LOST = {"requests": [request(1, RequestOutcome.LOST, RESILIENT)]}
LATE = {"late_s": 2.0}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([LATE], None),
        ([LATE | LOST], Broken),
        ([LATE, LOST], ClaimFailed),
        ([LATE | LOST, LOST], ClaimFailed),
        ([LATE | {"claims": claims_that(Result.FAILED)}], ClaimFailed),
        ([LATE | LOST | {"claims": claims_that(Result.BROKEN)}], Broken),
        ([LOST | {"claims": claims_that(Result.BROKEN)}], ClaimFailed),
        ([{"claims": claims_that(Result.BROKEN)}], Broken),
    ],
)
def test_what_is_wrong_is_judged_unless_there_is_doubt_in_each_step(
    changes: list[dict[str, Any]], expected: type[Exception] | None
) -> None:
    findings = Findings("steps")
    judge_rehearsal(rehearsal(*(step_result(**each) for each in changes)), findings)
    with pytest.raises(expected) if expected else nullcontext():
        findings.conclude()


def test_the_page_has_steps_versions_requests_and_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshproof.report.upgrade_page.clock", lambda wall: "12:00:00")
    versions = Components(istiods=("1.31",), gateways=("1.30",), sidecars=("1.30",))
    mixed = Components(istiods=("1.30",), gateways=("1.30",), sidecars=("1.30", "1.31"))
    good = step_result(components={"cluster1": versions, "cluster2": mixed})
    bad = step_result(0, healthy_s=None, unhealthy="cluster1 has no istiod", claims=None)
    assert page(rehearsal(good, bad, untaken=1)) == (
        "# Istio 1.30.4-abc to 1.31.0-def, in place: multi-primary-multinet\n"
        "\n"
        "- clusters: cluster1 (primary, network1), cluster2 (primary, network2)\n"
        "- steps: 2 of 3, including the rollback\n"
        "- requests during the steps: 20; lost with resilience settings (docs/failover.md): 0, "
        "with Istio's defaults: 0\n"
        "- all non-disruptive claims, after 1 steps: all hold\n"
        "\n"
        "| step | at | took | healthy after | requests | lost | lost with defaults | slowest | claims |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
        "| 1. istiod of cluster1 to 1.31 | 12:00:00 | 5.2 s | 1.5 s | 10 | 0 | 0 | 0.01 s | 1 hold |\n"
        "| 2. istiod of cluster1 to 1.31 | 12:00:00 | 5.2 s | never | 10 | 0 | 0 | 0.01 s |  |\n"
        "| 3. istiod of cluster1 to 1.31 | not taken | | | | | | | |\n"
        "\n"
        "## Versions after each step\n"
        "\n"
        "| step | cluster1 | cluster2 |\n"
        "|---|---|---|\n"
        "| 1 | istiod 1.31, gateways 1.30, sidecars 1.30 | istiod 1.30, gateways 1.30, sidecars 1.30+1.31 |\n"
        "\n"
        "## Problems\n"
        "\n"
        "- 2. istiod of cluster1 to 1.31: not healthy afterwards: cluster1 has no istiod\n"
    )
