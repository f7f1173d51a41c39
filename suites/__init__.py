"""Claims about a mesh, one folder per concern."""
