"""Injection and identity, as new pods get them."""
