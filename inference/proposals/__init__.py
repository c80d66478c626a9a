"""What the product would do with models: proposed, started, dismissed, done by itself."""
