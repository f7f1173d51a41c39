"""Faults: what breaks one thing, recorded before it happens, and undone afterwards whatever ends the run."""
