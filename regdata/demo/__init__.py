"""Nothing comes in; a sample registry on loopback, filled, cleaned or open in JupyterLab, goes out."""
