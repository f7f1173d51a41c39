"""Certificates and trust domains of a live mesh: observations and judgements of TRUST claims."""
