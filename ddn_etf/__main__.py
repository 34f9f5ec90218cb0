"""``python -m ddn_etf`` is ``ddn-etf``."""

from __future__ import annotations

from ddn_etf.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
