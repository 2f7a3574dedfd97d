"""Trials before step 1: measurements that pick the fastest correct way to train."""
