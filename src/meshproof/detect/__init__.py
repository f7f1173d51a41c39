"""Detects the mesh on existing clusters, without a topology."""
