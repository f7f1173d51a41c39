"""Clients of Istio: istioctl, istiod's debug interface, xDS dumps, configuration objects, release facts."""
