"""Endpoints, xDS sync, remote secrets and names: observations and judgements of DISCOVERY claims."""
