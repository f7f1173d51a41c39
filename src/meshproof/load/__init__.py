"""Load at a constant rate during a fault or an upgrade: generators outside and inside the mesh, and their history."""
