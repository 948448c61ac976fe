"""What a run is: its settings, the runner of its stages, and the files that they leave."""
