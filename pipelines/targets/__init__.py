"""A pipeline's steps in the form of something else: text, pictures, DVC."""
