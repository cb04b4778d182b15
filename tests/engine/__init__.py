"""Hollow models of true shape, and a real llama.cpp that says what memory each takes."""
