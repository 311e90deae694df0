"""What the figures of speed and memory are measured with."""
