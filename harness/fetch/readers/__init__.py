"""Readers from archives to pages of text without markup, boilerplate and licence headers: one module per kind."""
