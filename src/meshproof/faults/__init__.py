"""Faults: values that break one thing, as context managers that also prove that it healed."""
