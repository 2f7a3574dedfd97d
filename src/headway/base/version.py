"""Version of Headway."""

__version__ = "0.2.0"
