"""Who signs, who trusts whom, and what certificates say."""
