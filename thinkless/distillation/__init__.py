"""The two teachers, their pairs of answers, the file that keeps them, and data that others published."""
