"""Before, during and after an upgrade of Istio."""
