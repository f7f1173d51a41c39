"""Certificates: verifying the chains of a mesh, and issuing what probes and the lab need."""
