"""Workloads deployed to test a mesh: demonstration service, clients, short-lived pods, shared test bed."""
