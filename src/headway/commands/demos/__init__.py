"""Demos: models that are taught something, and asked before and after."""
