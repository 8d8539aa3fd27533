"""What a run leaves behind: the schema, the folder, and the run as an object."""
