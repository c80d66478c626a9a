"""What is sent: shipped prompt sets and prompts of a given length."""
