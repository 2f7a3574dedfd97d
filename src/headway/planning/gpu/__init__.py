"""What fits on a GPU, before anything is downloaded."""
