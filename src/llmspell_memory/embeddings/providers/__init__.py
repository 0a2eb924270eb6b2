"""Who makes vectors out of texts, one module each. Optional packages are imported when a provider is constructed."""
