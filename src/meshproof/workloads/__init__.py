"""What we deploy to ask a mesh: the demonstration service, clients, short-lived pods, the shared test bed."""
