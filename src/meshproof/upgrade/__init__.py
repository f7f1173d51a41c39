"""A mesh before, during and after an upgrade of Istio."""
