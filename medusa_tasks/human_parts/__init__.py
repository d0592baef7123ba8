"""Parts of human bodies."""
