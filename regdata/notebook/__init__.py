"""What the other packages know comes in; what the cells of a notebook show goes out."""
