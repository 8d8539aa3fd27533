"""Who does the units of a run: processes of this machine, Ray actors, Slurm jobs; all run the same loop."""
