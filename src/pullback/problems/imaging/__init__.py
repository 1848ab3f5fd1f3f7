"""Images seen through blur, motion, a coarser grid or missing pixels, with Gaussian noise: linear inverse problems."""
