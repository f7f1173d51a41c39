"""A test bed of our own for claims about routes, policies and protocols: one probe pod per cluster in a new namespace.

It affects no other workload: its services, hosts and policies select its own pods only, and all of it is deleted with
its namespace. One pod serves everything, identically in every cluster:

- port 80 `http` and 81 `grpc` (HTTP/2), and 90 `tcp`, which the mesh must treat as opaque;
- a response reports the cluster (`x-app-version`) and the protocol of the request (`x-meshproof-protocol`);
- POST to `/echo` returns the request body;
- header `x-meshproof-fail: <cluster>` makes only the probe of that cluster respond with 500.
"""
