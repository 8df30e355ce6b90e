"""The same house and the same event loops as for the tests of the edge, which is the house they visit."""

from tests.edge.conftest import house, pytest_asyncio_loop_factories

__all__ = ["house", "pytest_asyncio_loop_factories"]
