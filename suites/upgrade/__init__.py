"""Claims about an upgrade of Istio; without --upgrade-to they do not apply."""
