"""Circuits as researchers have them: components with roles, edges with scores, and where they come from."""
