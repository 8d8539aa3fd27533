"""A run's folder on disk: files of finished units, claims on unfinished ones, and the log."""
