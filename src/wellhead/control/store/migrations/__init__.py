"""Alembic's scripts, run at every start by ``control.store.database``."""
