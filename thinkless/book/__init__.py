"""The book itself: its chapters, figures, sweeps, and the numbers that it compares with."""
