"""What control planes know, and what proxies have."""
