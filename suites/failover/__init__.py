"""Claims under failures of parts of the mesh. Disruptive."""
