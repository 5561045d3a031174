"""The tests. What their helpers assert says what it compared, as the tests' own assertions do."""

import pytest

pytest.register_assert_rewrite(
    "xmin_assets_tests.replica", "xmin_assets_tests.clusters", "xmin_assets_tests.integration.ledger"
)
