"""Golden record of a mesh: configuration of proxies and control planes, normalised so that two records compare."""
