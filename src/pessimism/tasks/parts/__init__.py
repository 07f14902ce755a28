"""What tasks are made of: the declaration, the rules for answers, reading and splitting of rows."""
