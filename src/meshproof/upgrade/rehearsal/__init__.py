"""A mesh on its way from one release of Istio to the next, and back."""
