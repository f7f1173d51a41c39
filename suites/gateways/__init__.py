"""What gateways pass through, and what they reject."""
