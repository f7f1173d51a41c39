"""Network probes: each returns what it observed, or raises if it could not be run. A refusal is an observation.

Scripts that run in client pods need `sh`, `curl` (7.84 or newer, for `%header{}`), `openssl` and `sleep`.
"""
