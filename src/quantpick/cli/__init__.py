"""The command line: parse, one call of api, render, exit status; nothing else."""
