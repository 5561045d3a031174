"""``python -m xmin_assets`` is the command `xmin-assets`."""

from xmin_assets.cli.main import run

if __name__ == "__main__":
    run()
