"""Claims about an upgrade of Istio. Without --upgrade-to they say nothing."""
