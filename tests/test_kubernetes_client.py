"""The API client against a small server on loopback that answers as an API server does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from kubernetes.stream.ws_client import ERROR_CHANNEL

from meshproof.clients.kubernetes import client as client_module
from meshproof.clients.kubernetes.client import EXECS, ApiError, ExecResult, Json, Kube, path_of
from meshproof.clients.kubernetes.rollout import until
from meshproof.core.concurrency import together
from meshproof.core.errors import BadInput, NotReady
from tests.api_server import Answer, Server, kubeconfig


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


@pytest.fixture
def kube(server: Server, tmp_path: Path) -> Kube:
    return Kube(kubeconfig(tmp_path, server.url), "c", name="east")


def pod(version: str, phase: str) -> Json:
    return {"metadata": {"name": "p", "resourceVersion": version}, "status": {"phase": phase}}


def test_a_watch_lists_first_and_goes_on_from_there(kube: Kube, server: Server) -> None:
    def reply(_: str, __: str, query: dict[str, str]) -> Answer:
        if "watch" in query:
            return 200, [{"type": "MODIFIED", "object": pod("8", "Running")}]
        return 200, [{"metadata": {"resourceVersion": "7"}, "items": [pod("5", "Pending")]}]

    server.reply = reply
    seen = [(e["type"], e["object"]["status"]["phase"]) for e in kube.watch(path_of("Pod"), timeout_s=1)]
    assert seen == [("ADDED", "Pending"), ("MODIFIED", "Running")]
    assert server.asked[1][2]["resourceVersion"] == "7"
    assert kube.calls == 2
    assert kube.requests == {"GET": 1, "WATCH": 1}


def test_requests_are_counted_by_verb_from_all_threads(kube: Kube, server: Server) -> None:
    server.reply = lambda *_: (200, [{"items": []}])
    together(lambda _: kube.list("Pod"), range(40))
    kube.delete("Pod", "p", "ns")
    assert kube.requests == {"GET": 40, "DELETE": 1}
    assert kube.calls == 41


def test_commands_in_containers_wait_while_as_many_as_may_be_are_on_their_way(
    kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, running, most, begun = threading.Lock(), 0, 0, threading.Semaphore(0)
    release = threading.Event()

    def session(*_: object, **__: object) -> ExecResult:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        begun.release()
        assert release.wait(10)
        with lock:
            running -= 1
        return ExecResult(stdout="", stderr="", exit_code=0)

    monkeypatch.setattr(Kube, "_exec", session)
    others = Kube(Path("/nonexistent"), "another")
    with ThreadPoolExecutor(2 * EXECS) as pool:
        done = [pool.submit((kube, others)[n % 2].exec, "ns", "pod", ["true"]) for n in range(2 * EXECS)]
        for _ in range(EXECS):
            assert begun.acquire(timeout=10)
        assert not begun.acquire(timeout=0.2), "one more than may be has begun"
        release.set()
    assert [each.result().exit_code for each in done] == [0] * (2 * EXECS)
    assert most == EXECS


class EndedSession:
    """A websocket session after its end, as the kubernetes client gives it: `status` came on the error channel."""

    sock = SimpleNamespace(shutdown=lambda: None)

    def __init__(self, status: str) -> None:
        self.read_channel = {ERROR_CHANNEL: status}.__getitem__

    def run_forever(self, timeout: float) -> None: ...

    def is_open(self) -> bool:
        return False

    def read_stdout(self, timeout: float) -> str:
        return "seen"

    read_stderr = read_stdout

    def close(self) -> None: ...


def exec_that_ends_with(kube: Kube, monkeypatch: pytest.MonkeyPatch, status: str) -> ExecResult:
    monkeypatch.setattr(client_module, "stream", lambda *_, **__: EndedSession(status))
    return kube.exec("ns", "pod", ["true"])


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"status": "Success"}, 0),
        (
            {
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": "7"}]},
            },
            7,
        ),
    ],
)
def test_a_commands_exit_code_is_a_result(kube: Kube, monkeypatch: pytest.MonkeyPatch, status: Json, code: int) -> None:
    assert exec_that_ends_with(kube, monkeypatch, json.dumps(status)).exit_code == code


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        # What a kubelet sends where the container is removed while the command starts.
        (
            '{"status":"Failure","message":"error executing command in container: OCI runtime exec failed",'
            '"reason":"InternalError","details":{"causes":[{"message":"OCI runtime exec failed"}]},"code":500}',
            "did not run to its end: error executing command in container: OCI runtime exec failed",
        ),
        ("", "the connection was cut before the command ended"),
    ],
)
def test_a_command_that_did_not_run_to_its_end_is_not_ready(
    kube: Kube, monkeypatch: pytest.MonkeyPatch, status: str, reason: str
) -> None:
    with pytest.raises(NotReady, match=f"exec in ns/pod on east: true: {reason}"):
        exec_that_ends_with(kube, monkeypatch, status)


def test_an_error_event_ends_a_watch_with_the_servers_words(kube: Kube, server: Server) -> None:
    status = {"kind": "Status", "code": 504, "message": "Timeout: Too large resource version"}
    server.reply = lambda *_: (200, [{"type": "ERROR", "object": status}])
    with pytest.raises(ApiError, match="HTTP 504: Timeout: Too large resource version") as caught:
        list(kube.watch(path_of("Pod"), timeout_s=1, resourceVersion="9"))
    assert caught.value.status == 504


def test_a_refusal_carries_the_webhooks_words(kube: Kube, server: Server) -> None:
    server.reply = lambda *_: (500, [{"message": 'failed calling webhook "x": connection refused'}])
    with pytest.raises(ApiError, match='POST /api/v1/namespaces/ns/pods on east: HTTP 500: failed calling webhook "x"'):
        kube.create({"kind": "Pod", "metadata": {"name": "p", "namespace": "ns"}})


def test_what_is_not_there_is_none_and_other_errors_are_errors(kube: Kube, server: Server) -> None:
    assert kube.find("Pod", "p", "ns") is None
    assert kube.delete("Pod", "p", "ns") is False
    server.reply = lambda *_: (403, [{"message": "forbidden"}])
    with pytest.raises(ApiError, match="HTTP 403: forbidden"):
        kube.find("Pod", "p", "ns")


def test_an_unreachable_server_is_not_ready_and_says_what_was_asked(tmp_path: Path) -> None:
    kube = Kube(kubeconfig(tmp_path, "http://127.0.0.1:9"), "c", name="east")
    with pytest.raises(NotReady, match="GET /version on east: no response") as caught:
        kube.get("/version")
    assert caught.value.repair == "check that the API server runs and is reachable"


@pytest.mark.parametrize(("context", "missing"), [("other", False), ("c", True)])
def test_a_context_or_file_that_is_not_there_is_bad_input(tmp_path: Path, context: str, missing: bool) -> None:
    path = tmp_path / "nowhere" if missing else kubeconfig(tmp_path, "http://127.0.0.1:9")
    with pytest.raises(BadInput, match=f"kubeconfig {path}, context {context}"):
        Kube(path, context).get("/version")


def test_waiting_for_an_object_ends_with_its_deadline(kube: Kube, server: Server) -> None:
    def reply(_: str, path: str, query: dict[str, str]) -> Answer:
        if "watch" in query:
            return 200, []
        return 200, [
            pod("5", "Pending") if path.endswith("/p") else {"metadata": {"resourceVersion": "5"}, "items": []}
        ]

    server.reply = reply
    with pytest.raises(NotReady, match=r"a running pod on east: not within 0\.3 s"):
        until(kube, "Pod", "p", "ns", lambda seen: None, what="a running pod", timeout_s=0.3)
