"""Fixtures live in `fixtures/`, one concern a file."""

# A plugin stands after those that it imports: pytest can rewrite the assertions of a module only before its import.
pytest_plugins = [
    "fixtures.signals",
    "fixtures.options",
    "fixtures.plan",
    "fixtures.topology",
    "fixtures.narration",
    "fixtures.provider",
    "fixtures.report",
    "fixtures.allure_results",
    "fixtures.junit",
    "fixtures.mesh",
    "fixtures.concurrent_claims",
    "fixtures.drills",
    "fixtures.upgrade",
    "fixtures.diagram",
    "fixtures.worker",
    "fixtures.parallel",
]
