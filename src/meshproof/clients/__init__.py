"""Typed, synchronous clients: output is parsed once, into frozen dataclasses."""
