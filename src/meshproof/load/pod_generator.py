"""Load generator inside a client pod: once started, its requests do not depend on the API server.

One `exec` starts it in the background, another fetches the results. It ends by itself after a fixed number of requests,
even if nobody fetches them. Results that cannot be fetched are unknown, never successes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import Broken
from meshproof.load.history import Mark, Response
from meshproof.mesh.objects import PodFacts
from meshproof.probes.answers import VERSION_HEADER
from meshproof.probes.pod_script import WRITE_OUT, exec_in_pod, parse_curl

LONGEST_S: Final = 600.0
"""After this time it ends by itself and removes its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The response to a request of a pod, and its latency."""

    response: Response
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRequest:
    """One request of a pod; `end` is None if its end is unknown."""

    source: str
    sent: Mark
    end: End | None


# Timestamps come from /proc/uptime, in hundredths of a second: that forks no process and needs no fractions in `date`.
# Each line is one write to a file opened for appending, so lines stay whole.
_START: Final = """
dir=$1; limit=$2; count=$3; step=$4; format=$5; shift 5
mkdir "$dir" || exit 97
now() { read -r up _ </proc/uptime; now=${up%.*}${up#*.}; }
send() { curl -s -o /dev/null --max-time "$limit" -w "R $1 $2 $format" "$3"; }
pace() {
  now; due=$now; sent=0
  while [ "$sent" -lt "$count" ] && [ ! -e "$dir/stop" ]; do
    now; left=$((due - now))
    if [ "$left" -gt 0 ]; then
      rest=$((left % 100)); [ "$rest" -ge 10 ] || rest=0$rest
      sleep "$((left / 100)).$rest"; now
    fi
    sent=$((sent + 1)); due=$((due + step))
    echo "S $1 $sent $now"
    send "$1" "$sent" "$2" &
  done
  wait
  echo "E $1"
}
(
  trap '' HUP
  number=0
  for url in "$@"; do pace "$number" "$url" & number=$((number + 1)); done
  wait
  # Keep the results a little longer for a late fetch.
  [ -e "$dir/stop" ] || { sleep 60; rm -rf "$dir"; }
) </dev/null >>"$dir/out" 2>/dev/null &
now; echo "meshproof now $now"
"""

_FINISH: Final = """
dir=$1; loops=$2; tries=$3
[ -e "$dir/out" ] || exit 96
: >"$dir/stop"
while [ "$(grep -c '^E ' "$dir/out")" -lt "$loops" ] && [ "$tries" -gt 0 ]; do sleep 0.2; tries=$((tries - 1)); done
cat "$dir/out"
rm -rf "$dir"
"""


class PodLoad:
    """Load from one client pod, at the same rate from each source; `sources` maps a source's name to its URL."""

    def __init__(self, kube: Kube, pod: PodFacts, sources: Mapping[str, str]) -> None:
        self.sources = tuple(sources)
        self.trouble = ""
        """Why no results could be fetched; empty if they were."""
        self.late_s: dict[str, float] = {}
        """By source, the seconds by which it fell behind schedule at worst, as far as known."""
        self._kube = kube
        self._pod = pod
        self._urls = tuple(sources.values())
        self._folder = f"/tmp/meshproof-load-{uuid.uuid4().hex[:8]}"
        self._rate = 1.0
        self._began: Mark | None = None
        self._uptime_s = 0.0

    def start(self, rate: float) -> None:
        """Start the load. Raises `Broken` if that fails in the pod."""
        self._rate = rate
        count = round(LONGEST_S * rate)
        argv = ["sh", "-c", _START, "sh", self._folder, f"{DEADLINES.client_s:g}", str(count), str(round(100 / rate))]
        before = Mark.now()
        output = self._exec([*argv, WRITE_OUT, *self._urls], timeout_s=20)
        after = Mark.now()
        found = re.search(r"meshproof now (\d+)", output)
        if found is None:
            raise Broken(f"load from {self._pod} on {self._kube.name}", f"it did not start: {output[-300:]!r}")
        self._began = before.at((before.monotonic_s + after.monotonic_s) / 2)
        self._uptime_s = int(found[1]) / 100

    def finish(self, stopped: Mark) -> list[PodRequest]:
        """Stop the load, wait for requests in flight, and return all requests; `stopped` is when sending ended.

        Never raises: if the pod or its API server does not respond, every request that was due is unknown.
        """
        if self._began is None:
            return []
        patience = DEADLINES.client_s + 2
        argv = ["sh", "-c", _FINISH, "sh", self._folder, str(len(self._urls)), str(round(patience / 0.2))]
        try:
            text = self._exec(argv, timeout_s=patience + 20)
        except Broken as problem:
            self.trouble = str(problem)
            return self._unknown(stopped)
        if not text.strip():
            self.trouble = f"{self._pod} on {self._kube.name} has lost the results of its load: was it restarted?"
            return self._unknown(stopped)
        return self._read(text)

    def _exec(self, argv: Sequence[str], *, timeout_s: float) -> str:
        result = exec_in_pod(self._kube, self._pod, argv, timeout_s=timeout_s)
        return result.stdout or result.stderr if result.exit_code != 96 else ""

    def _mark(self, uptime_s: float) -> Mark:
        assert self._began is not None
        return self._began.at(self._began.monotonic_s + uptime_s - self._uptime_s)

    def _read(self, text: str) -> list[PodRequest]:
        sent, ended = parse_notes(text)
        self.late_s = {self.sources[number]: late for number, late in lateness(sent, 1 / self._rate).items()}
        return [
            PodRequest(source=self.sources[key[0]], sent=self._mark(uptime_s), end=ended.get(key))
            for key, uptime_s in sent.items()
        ]

    def _unknown(self, stopped: Mark) -> list[PodRequest]:
        assert self._began is not None
        seconds = stopped.monotonic_s - self._began.monotonic_s
        return [
            PodRequest(source=source, sent=self._began.at(self._began.monotonic_s + number / self._rate), end=None)
            for source in self.sources
            for number in range(int(seconds * self._rate))
        ]


Key = tuple[int, int]


def parse_notes(text: str) -> tuple[dict[Key, float], dict[Key, End]]:
    """Parses the file of the script above: when each request was sent (seconds of uptime), and how it ended.

    Truncated lines, as after a full disk or a kill, are ignored.
    """
    sent: dict[Key, float] = {}
    ended: dict[Key, End] = {}
    for line in text.splitlines():
        kind, *rest = line.split(" ", 3)
        if kind == "S" and len(rest) == 3:
            sent[int(rest[0]), int(rest[1])] = int(rest[2]) / 100
        elif kind == "R" and len(rest) == 3 and (end := _end(rest[2])) is not None:
            ended[int(rest[0]), int(rest[1])] = end
    return sent, ended


def lateness(sent: Mapping[Key, float], step_s: float) -> dict[int, float]:
    """By loop, the seconds by which it fell behind schedule at worst, relative to its first request."""
    firsts = {loop: at_s for (loop, number), at_s in sent.items() if number == 1}
    found: dict[int, float] = {}
    for (loop, number), at_s in sent.items():
        if loop in firsts:
            found[loop] = max(found.get(loop, 0.0), at_s - firsts[loop] - (number - 1) * step_s)
    return found


def _end(row: str) -> End | None:
    try:
        result = parse_curl(row)
    except (Broken, ValueError):
        return None
    attempts = result.headers[names.ATTEMPTS_HEADER]
    response = Response(
        status=result.status,
        version=result.headers[VERSION_HEADER] if result.status < 300 else "",
        error=result.error,
        flags=result.headers[names.FLAGS_HEADER],
        attempts=int(attempts) if attempts.isdecimal() else 0,
    )
    return End(response=response, latency_s=result.seconds)
