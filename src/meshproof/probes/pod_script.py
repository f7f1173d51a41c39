"""Shell scripts that run in a client pod by one `exec`, and the format of their output.

They need `sh` (dash and BusyBox will do), `mkdir`, `rm`, `cat`, `sleep`, and the programs of their commands. Secrets go
into a pod as files by standard input only: arguments appear in audit logs and error texts. They are in a folder that
only the pod's user can read for as long as the script runs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshproof.clients.kubernetes.client import ExecResult, Kube
from meshproof.core import names
from meshproof.core.errors import Broken, NotReady
from meshproof.mesh.objects import PodFacts
from meshproof.probes.answers import PROTOCOL_HEADER, VERSION_HEADER, bracketed, curl_problem

_FOLDER: Final = """
umask 077; work=/tmp/meshproof-$$
mkdir "$work" && cd "$work" || exit 97
trap 'rm -rf "$work"' EXIT; trap 'exit 98' HUP INT TERM
"""

# Reads files from standard input until the last line (nothing here may wait for its end).
STDIN_FILES: Final = (
    _FOLDER
    + """
while IFS= read -r line; do
  case $line in
    "meshproof file "*) file=${line#meshproof file };;
    "meshproof end") break;;
    *) printf '%s\\n' "$line" >>"$file";;
  esac
done
"""
)

LIMITED: Final = """
limited() {
  limit=$1 input=$2; shift 2
  "$@" <"$input" 2>&1 & probe=$!
  (sleep "$limit"; kill "$probe") >/dev/null 2>&1 & watch=$!
  wait "$probe" 2>/dev/null; code=$?
  kill "$watch" 2>/dev/null
  [ "$code" -le 128 ] || echo "meshproof: did not finish within $limit s"
}
"""
"""`limited SECONDS INPUT COMMAND…`: openssl would hang for minutes on a dropped connection, and not
every image has `timeout`."""

_END: Final = re.compile(r"\nmeshproof exit (\d+)\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a command printed, on standard output and standard error, and its exit code."""

    text: str
    exit_code: int


def stdin_of(files: Mapping[str, str]) -> str:
    """Text files in the format that `STDIN_FILES` reads."""
    parts = [
        f"meshproof file {name}\n{text if text.endswith(chr(10)) else text + chr(10)}" for name, text in files.items()
    ]
    return "".join(parts) + "meshproof end\n"


def exec_in_pod(
    kube: Kube, pod: PodFacts, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: str | None = None
) -> ExecResult:
    """Run one command in the client container of a pod."""
    return kube.exec(pod.namespace, pod.name, argv, container=names.CLIENT_POD, stdin=stdin, timeout_s=timeout_s)


def script(commands: Sequence[str], *, then: Sequence[str] = (), functions: str = "", files: bool = False) -> str:
    """A script that runs shell commands concurrently, `then` others sequentially, and prints the output of each in this
    order, with its exit code.
    """
    framed = [f"{{ {command}\nprintf '\\nmeshproof exit %s\\n' \"$?\"; }} </dev/null" for command in (*commands, *then)]
    begun = [f"{command} >output-{number:05} 2>&1 &" for number, command in enumerate(framed[: len(commands)])]
    lines = [
        STDIN_FILES if files else _FOLDER,
        functions,
        *begun,
        "wait",
        "cat output-*",
        *(f"{command} 2>&1" for command in framed[len(commands) :]),
    ]
    return "\n".join(lines)


def parse(text: str) -> list[Output]:
    """Parse the output of such a script."""
    pieces = _END.split(text)
    return [Output(text=text, exit_code=int(code)) for text, code in zip(pieces[0::2], pieces[1::2], strict=False)]


def run(
    kube: Kube,
    pod: PodFacts,
    commands: Sequence[str],
    *,
    what: str,
    timeout_s: float,
    then: Sequence[str] = (),
    functions: str = "",
    files: Mapping[str, str] | None = None,
    needs: str = "",
) -> list[Output]:
    """Run shell commands in a client pod concurrently, and `then` others sequentially; the output of each.

    `files` are in their working directory. Raises `NotReady` if some did not report, naming what the image `needs`.
    """
    argv = ["sh", "-c", script(commands, then=then, functions=functions, files=files is not None)]
    answer = exec_in_pod(kube, pod, argv, timeout_s=timeout_s, stdin=stdin_of(files) if files is not None else None)
    outputs = parse(answer.stdout)
    wanted = len(commands) + len(then)
    if len(outputs) != wanted:
        tail = (answer.stderr or answer.stdout).strip()[-300:]
        reason = f"{len(outputs)} of {wanted} commands reported (exit code {answer.exit_code}): {tail!r}"
        raise NotReady(f"{what} from {pod} on {kube.name}", reason, needs)
    return outputs


# -- openssl ----------------------------------------------------------------------------------------------------------


def s_client(address: str, port: int, *options: str, limit_s: float, request: str = "/dev/null") -> str:
    """A command of a script with the function `LIMITED`: a TLS handshake, whose messages and chain are printed.

    The file `request` is sent afterwards.
    """
    argv = ["openssl", "s_client", "-connect", f"{bracketed(address)}:{port}", "-showcerts", "-state", *options]
    return shlex.join(["limited", f"{limit_s:g}", request, *argv])


# -- curl -------------------------------------------------------------------------------------------------------------

HEADERS: Final = (
    VERSION_HEADER,
    PROTOCOL_HEADER,
    names.FLAGS_HEADER,
    names.ATTEMPTS_HEADER,
    "grpc-status",
    "x-envoy-upstream-service-time",
)
"""Response headers that curl reports."""

# One short line per request, since a load generator in a pod appends lines of many processes to one file. JSON
# (`%{json}`) has no headers, and its lines are longer than musl's stdio buffer (1,024 bytes): they would interleave.
WRITE_OUT: Final = "\\t".join(
    (
        "%{http_code}",
        "%{exitcode}",
        "%{time_total}",
        "%{time_connect}",
        *(f"%header{{{name}}}" for name in HEADERS),
        "%{errormsg}\\n",
    )
)
"""curl's option `-w`. No reported header contains tabs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurlResult:
    """One request of curl. `connect_s` is when TCP was connected, 0 if never; `error` is why there was no response."""

    status: int
    seconds: float
    connect_s: float
    headers: Mapping[str, str]
    error: str


_CURL: Final = ("curl", "-s", "-w", WRITE_OUT)
REQUEST: Final = f"""
request() {{ {shlex.join(_CURL)} "$@"; }}
"""
"""`request OPTIONS URL`: the format once, not in each command, since commands of an `exec` are part of a URL."""


def curl(url: str, *options: str, timeout_s: float) -> list[str]:
    """The command that reports each request in one line and discards the response body."""
    return [*_CURL, *_arguments(url, options, timeout_s)]


def request(url: str, *options: str, timeout_s: float, output: str = "/dev/null") -> list[str]:
    """The same in a script with the function `REQUEST`, with the response body in the file `output`."""
    return ["request", *_arguments(url, options, timeout_s, output)]


def _arguments(url: str, options: Sequence[str], timeout_s: float, output: str = "/dev/null") -> list[str]:
    return ["-o", output, "--max-time", f"{timeout_s:g}", *options, url]


def parse_curl(row: str) -> CurlResult:
    """One line of `WRITE_OUT`. Raises `Broken` if it is invalid, for example from an old curl."""
    parts = row.split("\t", len(HEADERS) + 4)
    if len(parts) != len(HEADERS) + 5 or "%header{" in row:
        raise Broken("curl's output", f"unexpected line {row!r}", "the client image needs curl 7.84 or newer")
    status, code, seconds, connected, *headers, message = parts
    return CurlResult(
        status=int(status),
        seconds=float(seconds),
        connect_s=float(connected),
        headers={name: value.strip() for name, value in zip(HEADERS, headers, strict=True)},
        error=curl_problem(int(code), message),
    )


def parse_curls(output: Output, count: int, what: str) -> list[CurlResult]:
    """The results of `count` sequential requests. Raises `NotReady` if there are fewer, and the last of them
    got a response: only a request without a response ends them early.
    """
    results = [parse_curl(row) for row in output.text.splitlines() if row]
    if len(results) != count and not (results and results[-1].error):
        reason = f"curl reported {len(results)} (exit code {output.exit_code}): {output.text[-300:]!r}"
        raise NotReady(what, reason)
    return results
