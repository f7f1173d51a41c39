"""What the lab runs, built or fetched: Go programs, images, wheels, Debian packages, Istio releases."""
