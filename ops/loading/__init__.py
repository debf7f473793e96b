"""Files into collections through an app's workers, and collections into files."""
