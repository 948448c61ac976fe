"""What a profile would take at full scale, worked out without a GPU and without its weights."""
