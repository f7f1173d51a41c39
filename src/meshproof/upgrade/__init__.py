"""Upgrades of Istio: check before, rehearsal, and comparison of records before and after."""
