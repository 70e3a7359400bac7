"""What trained models write: completions of prompts, and how often they are right."""
