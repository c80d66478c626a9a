"""What a smaller model loses against its source: distributions token by token, and a score on labelled prompts. No Django."""
