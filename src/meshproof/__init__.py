"""Proof that an Istio mesh over two Kubernetes clusters works, and goes on working while parts of it are dead."""

__version__ = "0.1.0"
