"""Results of a run: the schema, the folder, and the run as an object."""
