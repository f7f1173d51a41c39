"""Shares and routes: observations and judgements of TRAFFIC claims."""
