"""Rules of the upgrade check, by topic."""
