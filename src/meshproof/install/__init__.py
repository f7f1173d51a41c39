"""The steps that turn clusters into a mesh, each idempotent, undoable, timed and told in one line."""
