"""What the rendered data set is made of: the hand and its skin, things around it, light, and the camera."""
