"""The forward pass of a cn_clip model for training: its own parameters and numbers, in less time and memory."""
