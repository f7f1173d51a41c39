"""The lab's software, built or fetched: Go programs, images, wheels, Debian packages, Istio releases."""
