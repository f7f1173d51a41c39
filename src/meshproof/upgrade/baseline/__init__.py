"""The golden record of a mesh: what its proxies hold and who decides it, in a form in which two moments compare."""
