"""What control planes know and what proxies were told."""
