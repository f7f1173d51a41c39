"""The lab: real Kubernetes clusters on this Linux machine, without Docker, registry or cloud."""
