"""``python -m xmin_assets.demo`` walks through the demo in the current directory, as ``make demo`` does."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from xmin_assets.errors import XminAssetsError


def main() -> int:
    """Run the demo; return the exit status."""
    # Imported here, so that a missing part is one line as well.
    from xmin_assets.demo.walkthrough import run_demo

    try:
        run_demo(Path.cwd())
    except XminAssetsError as error:
        Console(stderr=True).print(f"[red]Error:[/] {error}", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
