"""Fixtures of the training tests, for tests of runs that need a trained one."""

from tests.training.conftest import here, no_matrix_products_for_their_own_sake

__all__ = ["here", "no_matrix_products_for_their_own_sake"]
