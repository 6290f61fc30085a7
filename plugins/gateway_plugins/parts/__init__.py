"""Pure helpers that plugins share. A plugin's own file says what is its own; what two need is here."""
