"""The steps that turn clusters into a mesh; each can be repeated, undone, and is timed and reported in one line."""
