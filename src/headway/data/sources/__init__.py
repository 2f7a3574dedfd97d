"""Where data lies: files, folders, HTTP, S3, the Hugging Face Hub."""
