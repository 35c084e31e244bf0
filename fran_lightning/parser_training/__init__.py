"""Training of the face parser on faces whose class maps are exact."""
