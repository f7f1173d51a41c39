"""Whether a mesh is healthy: checked before and after every fault and every step of an upgrade."""
