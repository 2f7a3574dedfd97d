"""Data sources: files, folders, HTTP, S3 and the Hugging Face Hub."""
