"""OAuth2 providers asked for consents and tokens, over HTTPS; what they answer, and why they refuse."""
