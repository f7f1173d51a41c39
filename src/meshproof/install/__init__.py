"""The steps that turn clusters into a mesh; each is idempotent, can be undone, and is reported in one line with its
time."""
