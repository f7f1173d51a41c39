"""What everything else stands on: topology and model, errors, names, deadlines, waiting, concurrency, statistics."""
