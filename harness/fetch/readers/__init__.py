"""From archives to pages of text, a module a kind of content; markup, boilerplate and licence headers stay behind."""
