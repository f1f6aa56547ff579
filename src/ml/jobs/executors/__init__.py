"""What runs the processes of jobs, one file each; `choice.py` knows them by their names."""
