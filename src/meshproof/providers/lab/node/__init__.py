"""One cluster of the lab: namespaces, network, control plane and node processes, and their supervision."""
