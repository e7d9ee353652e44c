"""What is kept, and the words that everyone shares: messages, settings, models, the log. Imports no other package."""
