"""First-party plugins: they use the public API alone and register through the same door as anybody else's."""
