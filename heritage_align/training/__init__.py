"""Training: the loop, its checkpoints and history. What is trained is a plugin's (kind trainer)."""
