"""The steps that turn clusters into a mesh; each is idempotent, undoable, timed and reported in one line."""
