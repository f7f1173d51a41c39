"""What a run leaves: failure texts, the verdict, summaries, charts and pictures."""
