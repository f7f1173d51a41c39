"""Is a mesh ready for another version of Istio? Facts are read, rules judge them, and a verdict says go or no-go."""
