"""Whether a mesh is healthy: asked before and after every fault and every step of an upgrade."""
