"""Guest and lab disk images from recipes, cached by hash."""
