"""Upgrade rehearsal: takes a mesh under load to another release of Istio and back."""
