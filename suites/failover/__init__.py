"""What goes on while parts of the mesh are dead. Disruptive."""
