"""Versions, configuration and leaders: observations and judgements of CONTROL claims."""
