"""A live mesh: handles on its clusters, one snapshot of what is in them, its gateways, webhooks and CA files."""
