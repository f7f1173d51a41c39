"""Steady requests while something happens: generators outside and inside the mesh, and the history they leave."""
