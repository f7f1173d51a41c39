"""A run's output: failure texts, the verdict, summaries, charts and diagrams."""
