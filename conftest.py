"""Fixtures are in `fixtures/`, one concern per file."""

# A plugin is listed after those that it imports: pytest can rewrite a module's assertions only before its import.
pytest_plugins = [
    "fixtures.signals",
    "fixtures.options",
    "fixtures.plan",
    "fixtures.topology",
    "fixtures.narration",
    "fixtures.provider",
    "fixtures.report",
    "fixtures.folded_reports",
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
