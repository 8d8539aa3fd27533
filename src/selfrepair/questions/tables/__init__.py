"""Answers as tables for the terminal."""
