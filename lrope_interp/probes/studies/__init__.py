"""Studies made with the toolkit; nothing else imports them."""
