"""`python -m dermaflux <verb>`."""

from dermaflux.cli import app

app(prog_name="python -m dermaflux")
