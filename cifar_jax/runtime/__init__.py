"""The shell around the core: runs, their folders, checkpoints, screens and pictures."""
