"""Meshes that others would have installed: by Istio's documentation, and by its Helm charts."""
