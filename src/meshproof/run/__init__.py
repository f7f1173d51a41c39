"""A run: its settings, permissions, clusters, and the lifecycle of the mesh on them."""
