"""Who answers, how often, and without errors."""
