"""Paper and ink: texts, numbers and tables come in, HTML and plain text go out."""
