"""What a run tells: failure texts, the verdict, the documentation of claims."""
