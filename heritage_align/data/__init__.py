"""Readers of collections, safe image decoding and the built-in motif collection."""
