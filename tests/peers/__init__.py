"""Other libraries beside cnnfast: what the comparisons of tests/test_torch*.py are made of."""
