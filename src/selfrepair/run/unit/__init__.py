"""What is computed for one unit of work, and what it leaves behind: the survey, the thresholds, the sweep."""
