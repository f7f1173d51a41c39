"""The rules by which a mesh is ready for another version of Istio, by what they are about."""
