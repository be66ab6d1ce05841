"""The course that is attacked, and the attacks, are no tests."""

from __future__ import annotations

collect_ignore = ["course", "cells", "prelude.py"]
