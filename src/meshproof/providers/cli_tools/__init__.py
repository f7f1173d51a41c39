"""Clusters made with the command-line tools of others: kind and gcloud."""
