"""Token ids of records, and which of them are trained."""
