"""A run: its settings, what it may do, its clusters, and the life of a mesh on them."""
