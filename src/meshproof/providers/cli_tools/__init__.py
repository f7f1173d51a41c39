"""Clusters created with other command-line tools: kind and gcloud."""
