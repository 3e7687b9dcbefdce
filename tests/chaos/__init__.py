"""What becomes of the home page while one back office after another fails in every way there is."""
