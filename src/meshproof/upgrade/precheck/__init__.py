"""Upgrade check: is a mesh ready for another version of Istio? Reads facts and applies rules; returns a verdict."""
