"""The computation of one unit of work and its results: the survey, the thresholds, the sweep."""
