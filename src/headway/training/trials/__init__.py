"""Trials before step 1: what this model and this machine do best."""
