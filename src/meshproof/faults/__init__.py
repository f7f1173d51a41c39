"""Faults: each breaks one thing, is journalled before injection, and is always undone afterwards."""
