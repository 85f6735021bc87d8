"""Text models of the alignment system: what turns a phrase or sentence into a vector of the common space."""
