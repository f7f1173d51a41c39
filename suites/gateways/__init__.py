"""What the gateways let through, and what they refuse."""
