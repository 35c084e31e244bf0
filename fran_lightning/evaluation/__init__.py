"""How well faces are made and re-aged, judged by measurements."""
