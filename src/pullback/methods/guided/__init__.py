"""Methods that steer a diffusion prior by a forward process."""
