"""What this computer is: its devices, its memory, how fast it trains."""
