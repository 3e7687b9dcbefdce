"""The routes under /session/: signing in with a browser, seeing and ending that, and the provider's word that it has ended."""
