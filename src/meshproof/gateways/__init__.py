"""Gateway exposure and the path of requests: observations and judgements of GATEWAYS claims."""
