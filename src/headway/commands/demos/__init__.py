"""Demos: small models, trained and questioned before and after."""
