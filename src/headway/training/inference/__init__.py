"""A trained model answering prompts."""
