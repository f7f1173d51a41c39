"""Failover drills: a fault under load, from a healthy mesh back to a healthy mesh."""
