"""A test bed of our own for claims about routes, policies and protocols: one probe pod per cluster in a new namespace.

Nothing of it touches anybody else: its services, hosts and policies select its own pods only, and all goes with its
namespace. One pod serves everything, in every cluster the same:

- port 80 `http` and 81 `grpc` (HTTP/2), and 90 `tcp`, which the mesh must not look into;
- an answer tells the cluster (`x-app-version`) and the protocol in which the request came (`x-meshproof-protocol`);
- POST to `/echo` is answered with the body;
- header `x-meshproof-fail: <cluster>` makes the probe of that cluster answer 500, and no other.
"""
