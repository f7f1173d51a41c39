"""What mesh is on clusters, read from the clusters themselves, without a topology."""
