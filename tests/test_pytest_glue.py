"""The fixtures and hooks of `fixtures/`, in runs of their own with a made-up provider."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]

CONFTEST = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
pytest_plugins = [
    "fixtures.options", "fixtures.topology", "fixtures.narration", "fixtures.provider", "fixtures.report",
    "fixtures.folded_reports",
    "fixtures.allure_results", "fixtures.junit",
    "fixtures.mesh", "fixtures.drills", "fixtures.diagram",
]
"""

CLAIMS = """
import pytest
from meshproof.claims.claim import REMOTES, Registry, claim
from meshproof.core.errors import BadInput, Broken, ClaimFailed, Unavailable

registry = Registry()
told = dict(promised_by="nobody", hint="look there", registry=registry)

@claim("FAILOVER-01", "it survives", disruptive=True, **told)
def test_disruptive(topology):
    pass

@claim("TRUST-01", "it holds", **told)
def test_good(topology):
    pass

@claim("TRUST-02", "it does not hold", **told)
def test_bad(topology, evidence):
    evidence.attach("seen", "what was seen")
    raise ClaimFailed("two roots\\n  last seen   AB:CD")

@claim("TRUST-03", "nobody knows", **told)
def test_broken(topology):
    raise Broken("exec", "cut off", "try again")

@claim("TRUST-04", "it cannot be asked here", **told)
def test_unavailable(topology):
    raise Unavailable("netem", "this kernel has none")

@claim("CONTROL-01", "remotes only", needs=REMOTES, **told)
def test_remotes(topology):
    pass
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST)
    pytester.makeini(
        "[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n"
        "markers =\n    claim(code): a claim\n    disruptive: it breaks things"
    )
    pytester.makepyfile(test_claims=CLAIMS)
    return pytester


def verdict_of(run: pytest.Pytester) -> dict[str, object]:
    read = yaml.safe_load((run.path / "reports" / "verdict.yaml").read_text())
    assert isinstance(read, dict)
    return read


def test_results_reasons_and_texts_of_a_run(run: pytest.Pytester) -> None:
    result = run.runpytest("--topology=multi-primary-samenet")
    result.assert_outcomes(passed=2, failed=2, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "TRUST-02 it does not hold: two roots",
            "  last seen   AB:CD",
            "  mesh        multi-primary-samenet: cluster1(primary, network1) cluster2(primary, network1)",
            "  look at     reports/evidence/multi-primary-samenet/TRUST-02/seen.txt",
            "  again       pytest --topology=multi-primary-samenet -k TRUST-02 --keep",
            "TRUST-03 BROKEN, so nothing is known about: nobody knows",
            "*meshproof*",
            "FAILED  TRUST-02 on multi-primary-samenet: two roots",
            "BROKEN  TRUST-03 on multi-primary-samenet: exec: cut off",
            "multi-primary-samenet *1 ok 1 failed 1 broken 1 skipped*-*1 ok",
        ]
    )
    result.stdout.no_fnmatch_line("*def test_bad*")
    results = run.path / "reports" / "allure-results"
    assert "provider=" in (results / "environment.properties").read_text()
    (story,) = (r for r in results.glob("*-result.json") if "test_bad" in r.read_text())
    labels = {label["name"]: label["value"] for label in json.loads(story.read_text())["labels"]}
    assert (labels["epic"], labels["story"]) == ("multi-primary-samenet", "TRUST-02")
    read = verdict_of(run)
    assert read["go"] is False
    claims = read["topologies"]["multi-primary-samenet"]["claims"]  # type: ignore[index]
    assert {code: row["result"] for code, row in claims.items()} == {
        "CONTROL-01": "NOT_APPLICABLE",
        "FAILOVER-01": "SUCCEEDED",
        "TRUST-01": "SUCCEEDED",
        "TRUST-02": "FAILED",
        "TRUST-03": "BROKEN",
        "TRUST-04": "SKIPPED",
    }
    assert claims["CONTROL-01"]["reason"] == "multi-primary-samenet: every cluster is a primary"
    assert claims["TRUST-04"]["reason"] == "netem: this kernel has none"


MANY = """
import pytest
from meshproof.claims.claim import Registry, claim
from meshproof.core.errors import Broken, ClaimFailed, Unavailable

registry = Registry()
told = dict(promised_by="nobody", hint="look there", registry=registry)

@pytest.fixture(scope="session")
def app():
    raise Broken("the application", "not ready after 60 s\\n  last seen   ErrImagePull", "name another image")

@pytest.fixture(scope="session")
def clients():
    return {}["nobody"]

def declare(number):
    @claim(f"TRUST-{number:02}", "it holds", **told)
    def test(topology, app):
        pass

    @claim(f"GATEWAYS-{number:02}", "it holds", **told)
    def test_clients(topology, clients):
        pass

    @claim(f"FAILOVER-{number:02}", "it survives", **told)
    def test_skipped(topology):
        raise Unavailable("netem", "this kernel has none")

    return test, test_clients, test_skipped

for number in range(1, 31):
    globals()[f"test_{number}"], globals()[f"test_clients_{number}"], globals()[f"test_skip_{number}"] = declare(number)

@claim("CONTROL-01", "it holds, too", **told)
def test_bad(topology):
    raise ClaimFailed("two roots\\n  last seen   AB:CD")

@claim("CONTROL-02", "it holds, too", **told)
def test_good(topology):
    pass
"""

CLOSING = """\
==================================== ERRORS ====================================
___________ ERROR at setup of test_clients_*[[]multi-primary-samenet] *
*   @pytest.fixture(scope="session")
    def clients():
>       return {}["nobody"]
E       KeyError: 'nobody'
=================================== FAILURES ===================================
_____* test_bad[[]multi-primary-samenet] *
CONTROL-01 it holds, too: two roots
  last seen   AB:CD
  mesh        multi-primary-samenet: cluster1(primary, network1) cluster2(primary, network1)
  promised    nobody
  try         look there
  again       pytest --topology=multi-primary-samenet -k CONTROL-01 --keep
================================== meshproof ===================================
BROKEN  30 claims for one cause, on multi-primary-samenet:
        KeyError: 'nobody' (test_claims.py:*, clients)
        claims: GATEWAYS-01 to GATEWAYS-30
BROKEN  30 claims for one cause, on multi-primary-samenet:
        the application: not ready after 60 s
          last seen   ErrImagePull
        repair: name another image
        claims: TRUST-01 to TRUST-30
FAILED  CONTROL-01 on multi-primary-samenet: two roots
        try look there
SKIPPED FAILOVER-01 to FAILOVER-30 on multi-primary-samenet: netem: this kernel has none
MISSING multi-primary-samenet: nothing was asserted about FAILOVER, 30 skipped: netem: this kernel has none

topology               trust      gateways   control        failover
multi-primary-samenet  30 broken  30 broken  1 ok 1 failed  30 skipped
NO-GO: 1 claim does not hold, 60 are BROKEN (nothing is known about them), 1 holds, 30 were not asked, the run lacks*
verdict: reports/verdict.yaml
picture: multi-primary-samenet.svg in the same folder
=*= 1 failed, 1 passed, 30 skipped, 60 errors in *"""


def test_a_cause_of_many_claims_is_told_once_and_comes_last(run: pytest.Pytester) -> None:
    run.makepyfile(test_claims=MANY)
    result = run.runpytest("--topology=multi-primary-samenet", "-ra")
    closing = result.outlines[result.outlines.index(CLOSING.splitlines()[0]) :]
    result.stdout.fnmatch_lines(CLOSING.splitlines())
    assert len(closing) < 45, "\n".join(closing)
    assert [line for line in closing if "Broken" in line or "SKIPPED [" in line] == []
    junit = (run.path / "reports" / "junit.xml").read_text()
    assert junit.count(">TRUST-") == 30, "there each claim has its text"
    causes = verdict_of(run)["causes"]
    assert [(cause["claims"][0], len(cause["claims"])) for cause in causes] == [("GATEWAYS-01", 30), ("TRUST-01", 30)]  # type: ignore[attr-defined]


def test_a_run_that_ends_early_is_no_go(run: pytest.Pytester) -> None:
    """Even if all is green until then, and only a part was to be run."""
    ends = """
@claim("TRUST-06", "it is not reached", **told)
def test_ends(topology):
    pytest.exit("somebody: wrong", returncode=4)
"""
    run.makepyfile(test_claims=CLAIMS + ends)
    result = run.runpytest("--topology=multi-primary-samenet", "-k", "TRUST-01 or TRUST-06")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        ["MISSING the run ended early, with exit code 4, see above", "NOT KNOWN: 1 claim holds, *"]
    )
    assert (verdict_of(run)["go"], verdict_of(run)["outcome"]) == (False, "NOT KNOWN")


def test_a_test_that_fails_beside_claims_is_no_go(run: pytest.Pytester) -> None:
    run.makepyfile(test_claims=CLAIMS, test_other="def test_other(topology):\n    assert not topology")
    result = run.runpytest("--topology=multi-primary-samenet", "-k", "TRUST-01 or test_other")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["MISSING a test failed that proves no claim, see above"])
    assert verdict_of(run)["go"] is False


def test_a_picture_of_each_topology_lies_beside_the_verdict_and_in_allure(run: pytest.Pytester) -> None:
    result = run.runpytest("--topology=multi-primary-samenet", "-k", "TRUST-01 or TRUST-02")
    result.stdout.fnmatch_lines(
        ["verdict: reports/verdict.yaml", "picture: multi-primary-samenet.svg in the same folder"]
    )
    drawn = (run.path / "reports" / "multi-primary-samenet.svg").read_text()
    assert ">one root TRUST-02<" in drawn
    assert ">TRUST-02 FAILED: two roots<" in drawn
    results = run.path / "reports" / "allure-results"
    told = [json.loads(path.read_text()) for path in results.glob("*-globals.json")]
    attached = {each["name"]: each for one in told for each in one["attachments"]}
    picture = attached["multi-primary-samenet.svg"]
    assert picture["type"] == "image/svg+xml"
    assert (results / picture["source"]).read_text() == drawn


def test_a_picture_has_what_the_run_itself_has_read(run: pytest.Pytester) -> None:
    run.makepyfile(
        test_claims=CLAIMS
        + """
from fixtures.mesh import SNAPSHOTS
from fixtures.report import FACTS
from tests.fakes import snapshot_of

@pytest.fixture(autouse=True)
def read(request, topology):
    request.config.stash[SNAPSHOTS][topology.name] = snapshot_of(topology.name)
    request.config.stash[FACTS].kubernetes = {"cluster1": "v1.99.9", "cluster2": "v1.99.8"}
"""
    )
    run.runpytest("--topology=multi-primary-multinet", "-k", "TRUST-01")
    drawn = (run.path / "reports" / "multi-primary-multinet.svg").read_text()
    for told in ("198.18.2.1", ":15443", "primary · Kubernetes v1.99.8", "1 of 2 ready endpoints"):
        assert f">{told}<" in drawn


def test_a_picture_that_cannot_be_drawn_is_told_and_changes_nothing(run: pytest.Pytester) -> None:
    (run.path / "reports" / "multi-primary-samenet.svg").mkdir(parents=True)
    result = run.runpytest("--topology=multi-primary-samenet", "-k", "TRUST-01")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["no picture of multi-primary-samenet: IsADirectoryError: *"])
    assert verdict_of(run)["go"] is True


CONCURRENT_FIXTURES = """
import threading
import pytest
from meshproof.claims.claim import Isolation, Registry, claim
from meshproof.core.errors import ClaimFailed

registry = Registry()
told = dict(promised_by="nobody", hint="look there", registry=registry)
meeting = threading.Barrier(2, timeout=20)

@pytest.fixture(scope="session")
def mesh(topology):
    return "the mesh"

@pytest.fixture(scope="session")
def snapshot(mesh):
    return "a snapshot"

@pytest.fixture(scope="session")
def installed(mesh):
    return None

@pytest.fixture(scope="session")
def provider_name():
    return "lab"
"""

CONCURRENT = (
    CONCURRENT_FIXTURES
    + """
@claim("TRUST-01", "one", **told)
def test_one(context):
    context.evidence.attach("seen", f"{context.mesh} and {context.snapshot}")
    meeting.wait()

@claim("TRUST-02", "two", **told)
def test_two(context):
    meeting.wait()
    raise ClaimFailed("not so")

@claim("FAILOVER-01", "three", disruptive=True, **told)
def test_three(mesh, topology):
    assert meeting.n_waiting == 0

@claim("TRUST-03", "alone", isolation=Isolation.EXCLUSIVE, **told)
def test_four(context):
    assert meeting.n_waiting == 0
"""
)


@pytest.fixture
def concurrent(run: pytest.Pytester) -> pytest.Pytester:
    run.makeconftest(CONFTEST.replace('"fixtures.mesh",', '"fixtures.mesh", "fixtures.concurrent_claims",'))
    run.makepyfile(test_claims=CONCURRENT)
    return run


def test_claims_that_leave_the_mesh_as_it_is_are_proven_at_the_same_time(concurrent: pytest.Pytester) -> None:
    """The barrier opens for two at once only; each tells of its own result, evidence and nothing else."""
    result = concurrent.runpytest("--topology=multi-primary-samenet", "-v")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        ["*multi-primary-samenet: 3 claims are proven at the same time", "TRUST-02 two: not so"]
    )
    seen = concurrent.path / "reports" / "evidence" / "multi-primary-samenet" / "TRUST-01" / "seen.txt"
    assert seen.read_text() == "the mesh and a snapshot"
    results = concurrent.path / "reports" / "allure-results"
    (story,) = (r for r in results.glob("*-result.json") if "test_one" in r.read_text())
    assert [a["name"] for a in json.loads(story.read_text())["attachments"]] == ["seen.txt"]


HANGING = (
    CONCURRENT_FIXTURES
    + """
from meshproof.core.concurrency import together
from meshproof.workloads.testbed import shared
from contextlib import contextmanager

@contextmanager
def fresh_pods(mesh):
    print("the test bed is made")
    yield None
    print("the test bed is taken down")

shared.fresh_pods = fresh_pods
shared.SharedTestBed.await_removal = lambda self: print("the test bed is gone")

def hang(number):
    if number == 7:
        threading.Event().wait()

@claim("TRUST-01", "it hangs", deadline_s=1.5, isolation=Isolation.EXCLUSIVE, **told)
def test_hangs(context):
    together(hang, range(12))

@claim("TRUST-02", "it holds", isolation=Isolation.PUSHES_CONFIG, **told)
def test_good(context):
    assert context.fresh_pods is None

@claim("TRUST-03", "it does not", **told)
def test_bad(context):
    raise ClaimFailed("not so")

@claim("FAILOVER-01", "it survives", disruptive=True, **told)
def test_drill(topology):
    print("the drill begins")
"""
)


def test_a_claim_that_hangs_is_broken_and_the_run_goes_on_and_ends(concurrent: pytest.Pytester) -> None:
    """In a process of its own, which must end though its thread never does."""
    concurrent.makepyfile(test_claims=HANGING)
    result = concurrent.runpytest_subprocess("--topology=multi-primary-samenet", "-s", timeout=60)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*the test bed is made*",
            "*the test bed is taken down*",
            "*the test bed is gone*",
            "*the drill begins*",
            "*TRUST-01 did not end within 1.5 s: it was doing hang (test_claims.py:*)",
            "*meshproof*",
        ]
    )
    claims = verdict_of(concurrent)["topologies"]["multi-primary-samenet"]["claims"]  # type: ignore[index]
    assert {code: row["result"] for code, row in claims.items()} == {
        "FAILOVER-01": "SUCCEEDED",
        "TRUST-01": "BROKEN",
        "TRUST-02": "SUCCEEDED",
        "TRUST-03": "FAILED",
    }


@pytest.mark.parametrize(
    ("arguments", "declared", "problem"),
    [
        (
            "mesh, evidence",
            "",
            "TRUST-01 takes (mesh, evidence): a claim that is proven concurrently with others takes (*",
        ),
        (
            "",
            "",
            "TRUST-01 takes (): a claim that is proven concurrently with others takes (context: ClaimContext) and *",
        ),
        (
            "context, topology",
            "",
            "TRUST-01 takes (context, topology): a claim that is proven concurrently with others takes *",
        ),
        ("context", "serial=True, ", "TRUST-01 takes context, but runs by itself"),
    ],
)
def test_what_a_claim_may_take_is_seen_when_it_is_collected(
    concurrent: pytest.Pytester, arguments: str, declared: str, problem: str
) -> None:
    claim = f"@claim('TRUST-01', 'one', {declared}**told)\ndef test_one({arguments}): pass"
    concurrent.makepyfile(test_claims=f"{CONCURRENT_FIXTURES}\n{claim}")
    result = concurrent.runpytest("--topology=multi-primary-samenet")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([problem, "  repair: *"])


def test_with_x_the_run_stops_and_says_what_the_others_came_to(concurrent: pytest.Pytester) -> None:
    """They have begun long before, so they end; what has not begun never does."""
    worse = '@claim("TRUST-04", "four", **told)\ndef test_worse(context):\n    raise ClaimFailed("not so either")\n'
    concurrent.makepyfile(test_claims=f"{CONCURRENT}\n{worse}")
    result = concurrent.runpytest("--topology=multi-primary-samenet", "-x")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*proven, but not reported: 2 claims; not green: TRUST-04"])
    claims = verdict_of(concurrent)["topologies"]["multi-primary-samenet"]["claims"]  # type: ignore[index]
    assert {code: row["result"] for code, row in claims.items()} == {"TRUST-01": "SUCCEEDED", "TRUST-02": "FAILED"}


def test_with_lf_those_that_failed_are_proven_and_no_others(concurrent: pytest.Pytester) -> None:
    with_cache = ("--topology=multi-primary-samenet", "-o", "addopts=--import-mode=importlib")
    concurrent.runpytest(*with_cache).assert_outcomes(passed=3, failed=1)
    source = next(concurrent.path.glob("test_*.py"))
    source.write_text(source.read_text().replace("Barrier(2", "Barrier(1"))
    result = concurrent.runpytest(*with_cache, "--lf", "-v")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*: 1 claims are proven at the same time", "TRUST-02 two: not so"])


def test_with_ff_topologies_still_run_in_turn_and_disruptive_claims_last(concurrent: pytest.Pytester) -> None:
    concurrent.makepyfile(test_claims=CONCURRENT.replace("Barrier(2", "Barrier(1").replace("== 0", "== 1"))
    with_cache = ("--topology=all", "-o", "addopts=--import-mode=importlib")
    concurrent.runpytest(*with_cache, "--maxfail=9").assert_outcomes(passed=3, failed=9)
    result = concurrent.runpytest(*with_cache, "--ff", "--collect-only", "-q")
    ids = [line.partition("::")[2].partition("[")[0] for line in result.stdout.lines if "::" in line]
    in_three, in_the_last = ["two", "four", "one", "three"], ["one", "two", "four", "three"]
    assert ids == [f"test_{name}" for name in 3 * in_three + in_the_last]


SERIAL = (
    CONCURRENT
    + """
ended = []

@claim("TRUST-04", "it ends late", **told)
def test_late(context):
    threading.Event().wait(0.5)
    ended.append("late")

@claim("TRUST-00", "nothing is beside it", serial=True, **told)
def test_serial(mesh, evidence):
    assert ended == ["late"]
"""
)


def test_a_serial_claim_takes_fixtures_and_begins_when_the_concurrent_ones_have_ended(
    concurrent: pytest.Pytester,
) -> None:
    concurrent.makepyfile(test_claims=SERIAL)
    result = concurrent.runpytest("--topology=multi-primary-samenet", "-v", "-p", "no:randomly")
    result.assert_outcomes(passed=5, failed=1)
    ids = [line.partition("::")[2].partition("[")[0] for line in result.stdout.lines if "::" in line and "%]" in line]
    assert ids == ["test_one", "test_two", "test_four", "test_late", "test_serial", "test_three"]


def test_topologies_run_in_turn_and_disruptive_claims_last_in_each(run: pytest.Pytester) -> None:
    result = run.runpytest("--topology=all", "--collect-only", "-q")
    ids = [line.partition("::")[2] for line in result.stdout.lines if "::" in line]
    assert len(ids) == 24
    assert [i.partition("[")[2].rstrip("]") for i in ids[::6]] == [
        "multi-primary-multinet",
        "multi-primary-samenet",
        "primary-remote-multinet",
        "primary-remote-samenet",
    ]
    assert all(i.startswith("test_disruptive[") for i in ids[5::6])


def test_a_claim_that_leaves_the_mesh_slower_comes_last_in_its_suite(run: pytest.Pytester) -> None:
    source = next(run.path.glob("test_*.py"))
    source.write_text(source.read_text().replace('"it survives", disruptive', '"it survives", last=True, disruptive'))
    with source.open("a") as file:
        file.write(
            '\n@claim("FAILOVER-02", "so does this", disruptive=True, **told)\ndef test_later(topology):\n    pass\n'
        )
    result = run.runpytest("--topology=multi-primary-samenet", "--collect-only", "-q", "-k", "FAILOVER")
    ids = [line.partition("::")[2].partition("[")[0] for line in result.stdout.lines if "::" in line]
    assert ids == ["test_later", "test_disruptive"]


def test_a_claim_is_selected_by_its_code(run: pytest.Pytester) -> None:
    result = run.runpytest("--topology=multi-primary-samenet", "-k", "TRUST-01")
    result.assert_outcomes(passed=1, deselected=5)
    assert result.ret == pytest.ExitCode.OK
    assert verdict_of(run)["go"] is True


def test_a_run_that_asserted_nothing_is_red(run: pytest.Pytester) -> None:
    result = run.runpytest("--topology=multi-primary-samenet", "-k", "CONTROL-01")
    result.assert_outcomes(skipped=1, deselected=5)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["MISSING nothing was asserted about any mesh"])


def test_without_a_topology_the_legal_ones_are_listed(run: pytest.Pytester) -> None:
    result = run.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --topology is missing: *",
            "  repair: use --topology=multi-primary-multinet | *primary-remote-samenet | all",
        ]
    )


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--topology=nope", "ERROR: --topology=nope: no such topology"),
        ("--provider=aws", "ERROR: --provider=aws: there is no such provider"),
        ("--outage=soon", "ERROR: --outage=soon: not a valid number of seconds"),
        ("--mesh=mine", "ERROR: --mesh=mine: not a valid value"),
        ("--slice=0", "ERROR: --slice=0: not a number of mutants"),
        ("--outage=nan", "ERROR: --outage=nan: not a valid number of seconds"),
    ],
)
def test_wrong_values_are_usage_errors(run: pytest.Pytester, argument: str, told: str) -> None:
    result = run.runpytest(argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([told, "  repair: use *"])


def test_clusters_of_others_are_not_broken_or_impersonated_unless_allowed(run: pytest.Pytester) -> None:
    config = run.path / "config"
    config.write_text("contexts: []")
    run.makepyfile(
        test_claims=CLAIMS
        + """
@claim("TRUST-06", "strangers are refused", credentials="certificates", **told)
def test_signing(topology):
    pass
"""
    )
    chosen = ("--topology=multi-primary-samenet", "-k", "TRUST-01 or TRUST-02 or TRUST-06 or FAILOVER-01")
    result = run.runpytest(f"--kubeconfig={config}", "--cluster2-context=east 2", *chosen)
    result.assert_outcomes(passed=1, failed=1, skipped=2, deselected=3)
    result.stdout.fnmatch_lines(
        ["  again       pytest --topology=multi-primary-samenet -k TRUST-02 --provider=kubeconfig --kube*east 2'"]
    )
    claims = verdict_of(run)["topologies"]["multi-primary-samenet"]["claims"]  # type: ignore[index]
    assert {code: row.get("reason", "").rpartition("\n")[2] for code, row in claims.items() if "-01" not in code} == {
        "TRUST-02": "two roots",
        "TRUST-06": "  repair: --allow-credentials",
    }
    assert claims["FAILOVER-01"]["reason"].endswith("repair: --allow-disruptive")
    allowed = run.runpytest(f"--kubeconfig={config}", "--allow-disruptive", "--allow-credentials", *chosen)
    allowed.assert_outcomes(passed=3, failed=1, deselected=3)


def test_contexts_that_are_not_there_end_the_run(run: pytest.Pytester) -> None:
    config = run.path / "config"
    config.write_text("contexts: [{name: east}]")
    run.makepyfile(test_it="def test_it(clusters):\n    pass")
    arguments = ("test_it.py", "--topology=multi-primary-samenet", f"--kubeconfig={config}", "--context=cluster1=west")
    result = run.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        ["*--context=cluster1=west: there is no context west", "*name another; contexts in --kubeconfig=*: east*"]
    )


def test_an_existing_mesh_must_be_there(run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHPROOF_STATE", str(run.path / "state"))
    run.makepyfile(test_it="def test_it(clusters):\n    pass")
    result = run.runpytest("test_it.py", "--topology=multi-primary-samenet", "--mesh=existing")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*--mesh=existing: lab default: is not up, so there is no mesh to verify*"])


def test_disruptive_claims_are_deselected_by_their_mark(run: pytest.Pytester) -> None:
    result = run.runpytest("--topology=multi-primary-samenet", "-m", "not disruptive", "--collect-only", "-q")
    assert not any("test_disruptive" in line for line in result.stdout.lines)
    assert any("test_good" in line for line in result.stdout.lines)


def test_bad_input_in_set_up_ends_the_run_with_4(run: pytest.Pytester) -> None:
    run.makepyfile(
        test_setup="""
        import pytest
        from fixtures.provider import bad_input_ends_the_run
        from meshproof.core.errors import BadInput

        @pytest.fixture
        def clusters():
            with bad_input_ends_the_run():
                raise BadInput("lab x", "is up with other clusters", "stop it")

        def test_it(clusters):
            pass
        """
    )
    result = run.runpytest("test_setup.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*lab x: is up with other clusters*"])


def test_steps_are_told_while_output_is_captured(run: pytest.Pytester) -> None:
    run.makepyfile(
        test_steps="""
        def test_it(narrator):
            print("captured")
            with narrator.step("something"):
                pass
        """
    )
    result = run.runpytest("test_steps.py")
    result.stdout.fnmatch_lines(["* s  +* s  something"])
    result.stdout.no_fnmatch_line("captured")


def test_one_topology_follows_the_other_on_the_same_clusters(run: pytest.Pytester) -> None:
    """Session fixtures that depend on the topology are set up once for each, in turn; others once."""
    run.makepyfile(
        test_claims="""
        import pytest
        from meshproof.claims.claim import Registry, claim
        registry = Registry()

        @pytest.fixture(scope="session")
        def shared():
            print("shared up")

        @pytest.fixture(scope="session")
        def per_topology(shared, topology):
            print("up", topology.name)
            yield topology.name
            print("down", topology.name)

        @claim("TRUST-01", "one", promised_by="p", hint="h", registry=registry)
        def test_one(per_topology): ...

        @claim("TRUST-02", "two", promised_by="p", hint="h", registry=registry)
        def test_two(per_topology): ...
        """
    )
    result = run.runpytest("--topology=all", "-s", "-q")
    told = [line.lstrip(".") for line in result.stdout.lines if line.lstrip(".").startswith(("up", "down", "shared"))]
    names = ["multi-primary-multinet", "multi-primary-samenet", "primary-remote-multinet", "primary-remote-samenet"]
    assert told == ["shared up", *(f"{word} {name}" for name in names for word in ("up", "down"))]


def test_a_claim_about_an_upgrade_says_nothing_unless_it_is_asked_for(run: pytest.Pytester) -> None:
    run.makepyfile(
        test_claims=CLAIMS.partition("@claim")[0]
        + '@claim("UPGRADE-01", "it is ready", option="--upgrade-to", **told)\ndef test_ready(topology, settings):\n'
        '    assert settings.upgrade_to == "1.31"\n'
    )
    run.runpytest("--topology=multi-primary-samenet").assert_outcomes(skipped=1)
    claims = verdict_of(run)["topologies"]["multi-primary-samenet"]["claims"]  # type: ignore[index]
    assert (claims["UPGRADE-01"]["result"], claims["UPGRADE-01"]["reason"]) == ("NOT_APPLICABLE", "no --upgrade-to")
    run.runpytest("--topology=multi-primary-samenet", "--upgrade-to=v1.31").assert_outcomes(passed=1)
    wrong = run.runpytest("--topology=multi-primary-samenet", "--upgrade-to=soon")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    wrong.stderr.fnmatch_lines(["*--upgrade-to=soon: not a version of Istio"])


def test_an_assertion_of_our_own_code_is_broken_and_not_a_failure_of_the_mesh(run: pytest.Pytester) -> None:
    run.makepyfile(
        test_slip="""
        from meshproof.claims.claim import Registry, claim

        @claim("TRUST-05", "it holds", promised_by="nobody", hint="look there", registry=Registry())
        def test_slip(topology):
            assert not topology.name, "our own slip"
        """
    )
    run.runpytest("--topology=multi-primary-samenet", "test_slip.py")
    claims = verdict_of(run)["topologies"]["multi-primary-samenet"]["claims"]  # type: ignore[index]
    assert claims["TRUST-05"]["result"] == "BROKEN"
