"""Injection, configuration and versions of control planes."""
