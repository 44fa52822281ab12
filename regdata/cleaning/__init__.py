"""A Plan and a Config come in; a Result, a record and a smaller registry go out."""
