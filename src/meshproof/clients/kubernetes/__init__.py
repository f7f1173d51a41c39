"""The Kubernetes API: requests, watches, exec, credentials, manifests, rollouts and rights."""
