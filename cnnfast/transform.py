"""Between dense and convolutional layers."""
