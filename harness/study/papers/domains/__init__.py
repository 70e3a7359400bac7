"""Studies of domains: what models of text, of token worlds and of several corpora have in common."""
