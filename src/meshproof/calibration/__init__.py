"""Do the claims notice what they should? The suites run on meshes with one fault in each, and are judged by it."""
