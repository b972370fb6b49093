"""What tests/test_fuzz.py draws its calls from, and what it holds them against."""
