"""What this computer is: its devices, how it starts processes, how fast it trains."""
