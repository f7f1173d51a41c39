"""The lab: real Kubernetes clusters on this Linux machine, without Docker, a registry or a cloud."""
