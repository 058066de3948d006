"""Human approval of rows that no person has seen: items, states, history, places of review."""
