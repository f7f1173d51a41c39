"""Certificates: verifying a mesh's certificate chains, and issuing certificates for probes and the lab."""
