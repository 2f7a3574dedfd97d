"""Remote services: bounded retries, and the Hugging Face Hub."""
