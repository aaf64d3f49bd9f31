"""The Gradio page: the only package, with app.py, that imports gradio."""
