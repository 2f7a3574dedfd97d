"""Conversion of other tools' configuration files to ours."""
