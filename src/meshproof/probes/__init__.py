"""Probes of the wire: each returns what it observed, or raises why it could not look. A refusal is an observation.

Scripts that run in client pods need `sh`, `curl` (7.84 or newer, for `%header{}`), `openssl` and `sleep`.
"""
